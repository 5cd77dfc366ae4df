"""By what a shape is known again, whatever it is called and wherever it lies."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["geometry_digest", "pack_digests", "short_digest", "unpack_digests"]

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
