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

_TRIES = 100
"""To make a file in a new folder, which another process may take away before there is one."""


@contextmanager
def locked(output: str | Path | None) -> Iterator[None]:
    """Have ``output`` for this process alone; however that ends, the lock ends with it.

    The lock is of a hidden file beside it, which is taken away. Where no such file can be made, as
    beside a mounted folder, it is of the output itself, if that is there. A storage that knows no
    locks has none. Without an output nothing is locked.

    Raises:
        ConfigError: another process is writing it, or it cannot be made: the folder for it is a
            file, or may not be written.
    """
    if output is None or fcntl is None:
        yield
        return
    path = Path(os.path.realpath(output))
    file = path.parent / f".{path.name}.lock"
    new = _make_folder(path.parent, output)
    descriptor = _lock_file(file, output)
    own = descriptor is not None
    if descriptor is None:
        descriptor = _lock_itself(path, output)
    try:
        yield
    finally:
        if own:
            file.unlink(missing_ok=True)  # while it is locked, so that it is this one
        if descriptor is not None:
            os.close(descriptor)
        with suppress(OSError):  # what was written stays
            for folder in new:
                folder.rmdir()


def _make_folder(folder: Path, output: str | Path) -> list[Path]:
    """Make a folder; the folders that this makes, the inner ones first."""
    try:
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        with suppress(FileNotFoundError):  # taken away by another process: `_lock_file` tries again
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"`output` {output}: {folder} is no folder, and none can be made there: {error}"
        ) from error
    return new


def _lock_file(file: Path, output: str | Path) -> int | None:
    """The descriptor of a file that this process locked, and that is still there.

    None where no file can be made.
    """
    for _ in range(_TRIES):
        try:
            _make_folder(file.parent, output)
            descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
        except FileNotFoundError:  # another process took the folder away meanwhile
            continue
        except OSError:
            return None
        if not _lock(descriptor, output):
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        os.close(descriptor)  # whoever had it took it away meanwhile
    return None


def _lock_itself(path: Path, output: str | Path) -> int | None:
    """The descriptor of the output, locked by this process; None where there is no output."""
    if path.is_dir() or path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        _lock(descriptor, output)
        return descriptor
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise ConfigError(f"`output` {output}: {path.parent} may not be written")
    return None


def _lock(descriptor: int, output: str | Path) -> bool:
    """Lock an open file; False where the storage knows no locks. A refused one is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"`output` {output} is being written by another command: name another place, or "
            "wait for it"
        ) from error
    except OSError:
        return False
    return True
