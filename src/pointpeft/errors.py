"""Errors that a user can act on: the command line prints their message without a traceback."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "PointPeftError",
    "TrainingError",
    "check_choices",
    "check_numbers",
    "check_sizes",
    "check_text",
    "nearest_hint",
]


class PointPeftError(ValueError):
    """Something the caller passed cannot be used; the message says what would be right."""


class ConfigError(PointPeftError):
    """A setting is unknown, mistyped or inconsistent with another one."""


class DataError(PointPeftError):
    """A file or data set is missing, unreadable or not in the expected form."""


class CheckpointError(PointPeftError):
    """A checkpoint or adapter is damaged, unsafe, or belongs to another model."""


class TrainingError(PointPeftError):
    """Training cannot go on, such as after a loss that is not a number."""


def check_sizes(config: object, names: Sequence[str], least: int = 1, prefix: str = "") -> None:
    """Refuse settings ``names`` of ``config`` that are no integers of at least ``least``.

    None passes where it is the default. ``prefix`` is what a message puts before the name, such as
    "trainer.".

    Raises:
        ConfigError: one is not; it is named with its value.
    """
    for name in names:
        value = getattr(config, name)
        if value is None and getattr(type(config), name, 0) is None:
            continue
        if type(value) is not int or value < least:
            raise ConfigError(
                f"{prefix}{name} must be an integer of at least {least}, got {value!r}"
            )


def check_text(config: Any, name: str = "") -> None:
    """Refuse text in a config, at any depth, that is no UTF-8, such as a path that is not.

    A run folder records its config, and neither YAML nor JSON can hold such text.

    Raises:
        ConfigError: there is some; the setting is named.
    """
    if is_dataclass(config) and not isinstance(config, type):
        config = {field.name: getattr(config, field.name) for field in fields(config)}
    if isinstance(config, Mapping):
        for key, value in config.items():
            check_text(value, f"{name}.{key}" if name else str(key))
    elif isinstance(config, list | tuple):
        for value in config:
            check_text(value, name)
    elif isinstance(config, str):
        try:
            config.encode()
        except UnicodeEncodeError as error:
            shown = config.encode("utf-8", "backslashreplace").decode()
            raise ConfigError(
                f"{name} is no UTF-8 text, so no run folder can record it: {shown}; give the file "
                "or folder another name, or a link"
            ) from error


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """ "did you mean 'x'? " when something known resembles ``name``, else nothing."""
    near = [each for each in known if each.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def check_numbers(config: object, names: Sequence[str]) -> None:
    """Refuse settings ``names`` of ``config`` that are no finite numbers.

    Raises:
        ConfigError: one is not; it is named with its value.
    """
    for name in names:
        value = getattr(config, name)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value!r}")


def check_choices(
    config: object, names: Sequence[str], choices: Sequence[object], prefix: str = ""
) -> None:
    """Refuse settings ``names`` of ``config`` that are none of ``choices``.

    ``prefix`` is what a message puts before the name, such as "trainer.".

    Raises:
        ConfigError: one is not; it is named with its value and the choices.
    """
    for name in names:
        value = getattr(config, name)
        if not any(value is choice or value == choice for choice in choices):
            known = ", ".join(map(str, choices))
            raise ConfigError(f"{prefix}{name} must be one of {known}, got {value!r}")


def check_rates(config: object, names: Sequence[str]) -> None:
    """Refuse settings ``names`` of ``config`` that are no numbers in ``[0, 1)``.

    Raises:
        ConfigError: one is not; it is named with its value.
    """
    check_numbers(config, names)
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must lie in [0, 1), got {value!r}")
