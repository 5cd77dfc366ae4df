"""The log file of a run, beside what is shown of the package's messages."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pointpeft.errors import PointPeftError

__all__ = ["logged_to"]

log = logging.getLogger("pointpeft")

_FORM = "%(asctime)s %(levelname)s %(message)s"


class _Onward(logging.Handler):
    """Hands messages on to the handlers above the package's logger."""

    def emit(self, record: logging.LogRecord) -> None:
        if log.parent is not None:
            log.parent.handle(record)


class _Once(logging.Filter):
    """Leaves out information that was logged before, such as the same weights for every seed."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = record.levelno != logging.INFO or text not in self._said
        self._said.add(text)
        return new


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Write the package's messages of every level to a file as well, and the error that ends it.

    What is shown elsewhere stays as logging is configured.
    """
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter(_FORM, datefmt="%Y-%m-%d %H:%M:%S"))
    file.addFilter(_Once())
    level, propagate = log.level, log.propagate
    handlers: list[logging.Handler] = [file]
    if propagate:  # a run within another one has its messages handed on by that one
        handlers.append(_Onward(log.getEffectiveLevel()))
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield
    except Exception as error:
        foreseen = isinstance(error, PointPeftError)
        file.handle(
            log.makeRecord(
                log.name, logging.ERROR, __file__, 0, "%s", (error,),
                None if foreseen else sys.exc_info(),
            )
        )  # fmt: skip
        raise
    finally:
        log.setLevel(level)
        log.propagate = propagate
        for handler in handlers:
            log.removeHandler(handler)
        file.close()
