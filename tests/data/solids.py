"""A cube, an L and what their files must give, for the tests of mesh readers."""

from pathlib import Path

import numpy as np

from pointpeft.data import RawShape, read_shape

CORNERS = [(x, y, z) for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)]
"""Corners of the unit cube; the last coordinate changes first."""
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
"""Its sides."""
TRIANGLES = [(q[a], q[b], q[c]) for q in QUADS for a, b, c in ((0, 1, 2), (2, 3, 0))]
L_SHAPE = [(3.0, 1, 0), (1, 1, 0), (1, 3, 0), (0, 3, 0), (0, 0, 0), (3, 0, 0)]
"""Corners of a polygon that is not convex, of area 5; a fan around its first corner has 9."""


def area(shape: RawShape) -> float:
    """Surface area of a mesh."""
    if shape.faces is None:
        return 0.0
    corners = np.asarray(shape.points, dtype=float)[shape.faces]
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(0.5 * np.linalg.norm(sides, axis=1).sum())


def read_text(path: Path, text: str | bytes, segmented: bool = False) -> RawShape:
    """The shape in a file with this content."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_shape(path, segmented)
