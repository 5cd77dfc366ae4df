"""A lock on a file or folder that is written, which one process at a time has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pointpeft.errors import ConfigError

try:
    import fcntl
except ImportError:  # a system without such locks, as Windows: there nothing is refused
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]


@contextmanager
def locked(output: str | Path | None) -> Iterator[None]:
    """Have ``output`` for this process alone; however that ends, the lock ends with it.

    The lock is of a hidden file beside it, which is taken away. A storage that knows no locks has
    none. Without an output nothing is locked.

    Raises:
        ConfigError: another process is writing it.
    """
    if output is None or fcntl is None:
        yield
        return
    path = Path(os.path.realpath(output))
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    descriptor = _lock(file, output)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is locked, so that it is this one
        os.close(descriptor)
        with suppress(OSError):  # what was written stays
            for folder in new:
                folder.rmdir()


def _lock(file: Path, output: str | Path) -> int:
    """The descriptor of a file that is locked by this process, and still there."""
    while True:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConfigError(
                f"`output` {output} is being written by another command: name another place, or "
                "wait for it"
            ) from error
        except OSError:  # a storage that knows no locks
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        os.close(descriptor)  # whoever had it took it away meanwhile
