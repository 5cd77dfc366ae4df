"""Prepared clouds, kept on disk, and hashes by which a shape is known again."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pointpeft.data.array_cache import ArrayCache
from pointpeft.data.prepare import InputTransform, Prepared

__all__ = [
    "PreparedCache",
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


_CODE_VERSION = 4
"""Raised whenever preparation gives other points for the same file and settings, or a file another
form."""


class PreparedCache:
    """Prepared shapes by their content and the settings, see :class:`ArrayCache`.

    Args:
        folder: Where the cache is; by default `default_cache_dir()`.
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
        self._files = ArrayCache(folder, "prepared")
        self._segmented = segmented
        settings = [_CODE_VERSION, transform.to_dict(), num_stored, seed]
        settings += ["seg"] if segmented else []
        self._settings = json.dumps(settings, sort_keys=True)

    @property
    def notes(self) -> list[str]:
        """What went wrong with the cache, in plain words."""
        return self._files.notes

    def get(self, key: str) -> Prepared | None:
        """The prepared shape that was kept as `key`, if it is kept intact."""
        return self._files.get(f"{key} {self._settings}", self._unpack)

    def put(self, key: str, prepared: Prepared) -> None:
        """Keep a prepared shape as `key`, the hash of all that it was read from."""
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
        self._files.put(f"{key} {self._settings}", arrays)

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
