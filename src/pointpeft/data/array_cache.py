"""Small files of arrays that can be made anew: what was read of shapes, or seen of them."""

import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from pointpeft.errors import ConfigError
from pointpeft.files import replacing

__all__ = ["KINDS", "ArrayCache", "cache_limit", "cached_files", "clear_cache", "default_cache_dir"]

T = TypeVar("T")
KINDS = ("prepared", "teacher")
"""Folders of the cache: prepared clouds, and what an image encoder sees of shapes."""
_LIMIT = "10"
_KEPT = 0.8
"""Part of its limit that the cache keeps when it outgrows it."""


def default_cache_dir() -> Path:
    """`$POINTPEFT_CACHE` if it is set, else `~/.cache/pointpeft`."""
    named = os.environ.get("POINTPEFT_CACHE") or "~/.cache/pointpeft"
    try:
        return Path(named).expanduser()
    except RuntimeError:  # the user has no home
        return Path(tempfile.gettempdir()) / "pointpeft"


def cache_limit() -> int:
    """Bytes that the cache may take: `$POINTPEFT_CACHE_LIMIT` in GB if it is set, else 10 GB.

    Raises:
        ConfigError: It is no positive number.
    """
    named = os.environ.get("POINTPEFT_CACHE_LIMIT") or _LIMIT
    try:
        limit = float(named)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise ConfigError(f"POINTPEFT_CACHE_LIMIT={named!r}: expected a size in GB, such as 10")
    return int(min(limit * 1e9, sys.maxsize))


def cached_files(folder: Path | None = None) -> list[tuple[Path, int, float]]:
    """Path, bytes and time of last use of every file, the one not used for longest first.

    What a run that was killed left half written is among them; times are seconds since 1970.
    """
    found = []
    for kind in KINDS:  # nothing else that lies there is touched
        for path in ((folder or default_cache_dir()) / kind).glob("??/*.npz*"):
            with suppress(OSError):  # another process may remove it
                about = path.stat()
                found.append((path, about.st_size, about.st_mtime))
    return sorted(found, key=lambda file: file[2])


def clear_cache(folder: Path | None = None) -> int:
    """Remove every file of the cache, which can be made anew; gives the number of files.

    Raises:
        ConfigError: One cannot be removed.
    """
    files = cached_files(folder)
    for path, _, _ in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"POINTPEFT_CACHE: {path} cannot be removed: {error}") from error
    return len(files)


class ArrayCache:
    """One small file for each key.

    It never stands in the way: damaged files count as missing, and a folder that cannot be
    written is not used. `notes` says when that happened. When the cache outgrows `cache_limit`, the
    files that were not used for longest are removed.

    Args:
        root: Where the cache is; by default `default_cache_dir()`.
        kind: What the files hold, one of :data:`KINDS`.
    """

    def __init__(self, root: Path | None, kind: str) -> None:
        self._root = root or default_cache_dir()
        self._folder, self._limit = self._root / kind, cache_limit()
        self._size: int | None = None  # looked up before the first file is written
        self._damaged = 0
        self._write_error: OSError | None = None

    @property
    def notes(self) -> list[str]:
        """What went wrong with the cache, in plain words."""
        notes = []
        if self._damaged:
            notes.append(f"{self._damaged} damaged cache files in {self._folder} were made anew")
        if self._write_error:
            notes.append(f"cache not written: {self._write_error}")
        return notes

    def get(self, key: str, unpack: Callable[[Mapping[str, np.ndarray]], T]) -> T | None:
        """What `unpack` makes of the arrays kept as `key`; None if there are none.

        They are damaged if they differ from what was written, or `unpack` raises any error.
        """
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as arrays:  # which compares checksums
                found = unpack(arrays)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception:  # whatever is wrong with the file, it can be made anew
            self._damaged += 1
            return None
        with suppress(OSError):  # of another user's cache it cannot be said
            os.utime(path)
        return found

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays as `key`, which says all that they were made of.

        Readers see the whole file or none.
        """
        if self._write_error:
            return
        path = self._path(key)
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            self._make_room(path.stat().st_size)
        except OSError as error:
            self._write_error = error

    def _make_room(self, written: int) -> None:
        """Keep the size within its limit, with some room so that this is rare."""
        if self._size is None:
            self._size = sum(size for _, size, _ in cached_files(self._root))
        else:
            self._size += written
        if self._size <= self._limit:
            return
        for path, size, _ in cached_files(self._root):
            path.unlink(missing_ok=True)
            self._size -= size
            if self._size <= _KEPT * self._limit:
                break

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.npz"
