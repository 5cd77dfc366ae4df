"""How much one request may ask of the service."""

from dataclasses import dataclass

from pointpeft.errors import check_sizes

__all__ = ["LOOPBACK", "Limits"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names that a machine has for itself."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a service; a request beyond one is refused.

    Attributes:
        max_bytes: of the body of a request.
        max_files: shapes in one request.
        max_points: points or vertices of one shape, and triangles.
        max_waiting: requests that are worked on or wait at the same time.
        reading_seconds: for reading and preparing one shape, at most ``seconds``.
        reading_bytes: memory that reading one shape may take.
        seconds: from the head of a request to its answer.

    Raises:
        ConfigError: one is no whole number of at least 1.
    """

    max_bytes: int = 64 << 20
    max_files: int = 32
    max_points: int = 1_000_000
    max_waiting: int = 64
    reading_seconds: int = 20
    reading_bytes: int = 1 << 30
    seconds: int = 60

    def __post_init__(self) -> None:
        check_sizes(self, list(vars(self)))
        object.__setattr__(self, "reading_seconds", min(self.reading_seconds, self.seconds))
