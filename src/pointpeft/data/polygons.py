"""Polygons of a mesh as triangles."""

from collections.abc import Sequence

import numpy as np

from pointpeft.errors import DataError

__all__ = ["Geometry", "strip_triangles", "triangulate"]

Geometry = tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]
"""Points `(N, 3)` float64, triangles `(F, 3)` int64 or None for a cloud, and notes."""
_REFLEX = -1e-9
"""A corner turns inwards when its turn, in parts of the largest one, is below this."""


def triangulate(
    points: np.ndarray, corners: Sequence[int] | np.ndarray, sizes: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Triangles that cover polygons, also those that are not convex.

    Args:
        points: Vertices `(V, 3)`.
        corners: Vertex numbers of all polygons, one polygon after the other, `(C,)`.
        sizes: Number of corners of each polygon, `(P,)`; their sum is C. Polygons of fewer than
            three corners have no area and are left out.

    Returns:
        Vertex numbers `(F, 3)` int64, polygons in order of their size.

    Raises:
        DataError: A polygon names a vertex that does not exist.
    """
    corners, sizes = np.asarray(corners, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(points):
        wrong = int(corners.min() if corners.min() < 0 else corners.max())
        raise DataError(
            f"a face names vertex {wrong}, there are {len(points)} (numbers 0 to {len(points) - 1})"
        )
    starts = np.cumsum(sizes) - sizes
    triangles = [np.empty((0, 3), dtype=np.int64)]
    for size in np.unique(sizes[sizes >= 3]):
        polygons = corners[starts[sizes == size, None] + np.arange(size)]
        if size == 3:
            triangles.append(polygons)
            continue
        is_convex = _are_convex(points[polygons])
        triangles.append(_fans(polygons[is_convex]))
        triangles += [_ears(points, polygon) for polygon in polygons[~is_convex]]
    return np.concatenate(triangles)


def strip_triangles(strip: np.ndarray) -> np.ndarray:
    """Triangles `(T - 2, 3)` of a triangle strip of vertex numbers `(T,)`."""
    return np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=1)


def _fans(polygons: np.ndarray) -> np.ndarray:
    """Triangles `(P * (K - 2), 3)` around the first corner of polygons `(P, K)`."""
    second = np.arange(1, polygons.shape[1] - 1)
    first = np.broadcast_to(polygons[:, :1], (len(polygons), len(second)))
    return np.stack([first, polygons[:, second], polygons[:, second + 1]], axis=-1).reshape(-1, 3)


def _are_convex(corners: np.ndarray) -> np.ndarray:
    """Which polygons `(P, K, 3)` turn one way at every corner; also those without a normal."""
    with np.errstate(all="ignore"):  # corners may be NaN; they are dealt with later
        edges = np.roll(corners, -1, axis=1) - corners
        turns = np.cross(np.roll(edges, 1, axis=1), edges)
        inwards = np.einsum("pkc,pc->pk", turns, _normals(corners))
        largest = np.abs(inwards).max(axis=1, keepdims=True)
        return ~(inwards < _REFLEX * largest).any(axis=1)


def _normals(corners: np.ndarray) -> np.ndarray:
    """Newell's normals `(P, 3)` of polygons `(P, K, 3)`, not of unit length."""
    arms = corners - corners[:, :1]
    return np.cross(arms, np.roll(arms, -1, axis=1)).sum(axis=1)


def _ears(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Triangles of one polygon `(K,)` by ear clipping in its mean plane."""
    import mapbox_earcut

    corners = points[polygon]
    (normal,) = _normals(corners[None])
    along = np.eye(3)[np.abs(normal).argmin()]
    first = np.cross(normal, along)
    second = np.cross(normal, first)
    plane = np.stack([first / np.linalg.norm(first), second / np.linalg.norm(second)], axis=1)
    flat = np.ascontiguousarray((corners - corners[0]) @ plane)
    if not np.isfinite(flat).all():  # corners so far apart that they have no plane
        return _fans(polygon[None])
    ears = mapbox_earcut.triangulate_float64(flat, np.array([len(polygon)], dtype=np.uint32))
    if len(ears) == 0:  # it crosses itself
        return _fans(polygon[None])
    return polygon[ears.reshape(-1, 3).astype(np.int64)]
