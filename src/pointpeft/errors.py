"""Errors that a user can act on: the command line prints their message without a traceback."""

__all__ = ["CheckpointError", "ConfigError", "DataError", "PointPeftError"]


class PointPeftError(ValueError):
    """Something the caller passed cannot be used; the message says what would be right."""


class ConfigError(PointPeftError):
    """A setting is unknown, mistyped or inconsistent with another one."""


class DataError(PointPeftError):
    """A file or data set is missing, unreadable or not in the expected form."""


class CheckpointError(PointPeftError):
    """A checkpoint or adapter is damaged, unsafe, or belongs to another model."""
