"""Keep prepared clouds on disk, and know a shape again by its content."""

import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.errors import ConfigError
from pointpeft.files import replacing

__all__ = [
    "PreparedCache",
    "cache_limit",
    "cached_files",
    "clear_cache",
    "default_cache_dir",
    "geometry_digest",
    "pack_digests",
    "short_digest",
    "unpack_digests",
]

_SHORT = 16
"""Hexadecimal digits that tell shapes apart: of a million, two are alike once in 10^7 sets."""


def short_digest(content: str | bytes) -> str:
    """16 hexadecimal digits of a hash: of what an object is called, or of anything else."""
    content = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()[:_SHORT]


def geometry_digest(points: np.ndarray, faces: np.ndarray | None = None) -> str:
    """Hash of a raw shape, the same for every kind of file that keeps its coordinates.

    Args:
        points: `(N, 3)` of any numeric type; what float32 does not tell apart counts as equal.
        faces: `(M, 3)` places in the points, of a mesh.

    Returns:
        16 hexadecimal digits.
    """
    with np.errstate(over="ignore"):  # huge coordinates are refused elsewhere
        content = np.ascontiguousarray(points[:, :3], "<f4") + np.float32(0)  # no negative zeros
    digest = hashlib.sha256(content.tobytes())
    if faces is not None:
        digest.update(np.ascontiguousarray(faces, "<i8").tobytes())
    return digest.hexdigest()[:_SHORT]


def pack_digests(digests: Iterable[str]) -> str:
    """Distinct digests, sorted and one after the other, as an adapter keeps them."""
    return "".join(sorted(set(digests)))


def unpack_digests(packed: object) -> Sequence[str]:
    """The digests that `pack_digests` wrote.

    Raises:
        ValueError: It is no text that could come from there.
    """
    if not isinstance(packed, str) or len(packed) % _SHORT or set(packed) - set("0123456789abcdef"):
        raise ValueError("expected hashes of 16 hexadecimal digits, one after the other")
    return [packed[start : start + _SHORT] for start in range(0, len(packed), _SHORT)]


_PREPARED = "prepared"
"""Folder of the cache that holds prepared clouds."""
_LIMIT = "10"
_KEPT = 0.8
"""Part of its limit that the cache keeps when it outgrows it."""
_CODE_VERSION = 4
"""Raised whenever preparation gives other points for the same file and settings, or a file another
form."""


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
    for path in ((folder or default_cache_dir()) / _PREPARED).glob("??/*.npz*"):
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


class PreparedCache:
    """One small file per prepared shape, named by its content and the settings.

    It never stands in the way: damaged files count as missing, and a folder that cannot be
    written is not used. `notes` says when that happened. When it outgrows `cache_limit`, the files
    that were not used for longest are removed.

    Args:
        folder: Where to keep the files; by default `default_cache_dir()`.
        transform: How shapes are prepared.
        num_stored: Rows of a prepared cloud.
        seed: Of the preparation.
        segmented: Whether shapes are kept with part labels.
    """

    def __init__(
        self,
        folder: Path | None,
        transform: InputTransform,
        num_stored: int,
        seed: int,
        segmented: bool = False,
    ) -> None:
        self.transform, self.num_stored, self.seed = transform, num_stored, seed
        self._root = folder or default_cache_dir()
        self._folder, self._limit = self._root / _PREPARED, cache_limit()
        self._size: int | None = None  # looked up before the first file is written
        self._segmented = segmented
        settings = [_CODE_VERSION, transform.to_dict(), num_stored, seed]
        settings += ["seg"] if segmented else []
        self._settings = json.dumps(settings, sort_keys=True)
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

    def get(self, key: str) -> Prepared | None:
        """The prepared shape that was kept as `key`, if it is kept intact."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = self._unpack(arrays)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception:  # whatever is wrong with the file, it can be made anew
            self._damaged += 1
            return None
        with suppress(OSError):  # of another user's cache it cannot be said
            os.utime(path)
        return found

    def put(self, key: str, prepared: Prepared) -> None:
        """Keep a prepared shape as `key`, the hash of all that it was read from.

        Readers see the whole file or none.
        """
        if self._write_error:
            return
        path = self._path(key)
        about = {
            "identity": prepared.digest,
            "raw_count": prepared.raw_count,
            "raw_radius": prepared.raw_radius,
            "raw_center": prepared.raw_center,
            "notes": prepared.notes,
        }
        arrays = {"points": prepared.points, "about": np.array(json.dumps(about))}
        if prepared.seg is not None:
            arrays["seg"] = prepared.seg
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
        name = hashlib.sha256(f"{key} {self._settings}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.npz"

    def _unpack(self, arrays: Mapping[str, np.ndarray]) -> Prepared:
        points, seg = arrays["points"], arrays["seg"] if self._segmented else None
        if points.shape != (self.num_stored, 3) or (seg is not None and len(seg) != len(points)):
            raise ValueError(f"points {points.shape}")
        about = json.loads(str(arrays["about"]))
        notes = tuple(about["notes"])
        return Prepared(
            points,
            about["raw_count"],
            about["raw_radius"],
            tuple(about["raw_center"]),
            notes,
            seg,
            about["identity"],
        )
