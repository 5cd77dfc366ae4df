"""Polygons of a mesh as triangles, and points on the surface of triangles."""

from collections.abc import Sequence

import numpy as np

from pointpeft.errors import DataError

__all__ = [
    "Geometry",
    "check_corners",
    "fan_triangles",
    "sample_cloud",
    "sample_surface",
    "sampled_vertices",
    "strip_triangles",
    "triangulate",
    "usable_faces",
]

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
    check_corners(corners, len(points))
    starts = np.cumsum(sizes) - sizes
    triangles = [np.empty((0, 3), dtype=np.int64)]
    for size in np.unique(sizes[sizes >= 3]):
        polygons = corners[starts[sizes == size, None] + np.arange(size)]
        if size == 3:
            triangles.append(polygons)
            continue
        is_convex = _are_convex(points[polygons])
        triangles.append(fan_triangles(polygons[is_convex]))
        triangles += [_ears(points, polygon) for polygon in polygons[~is_convex]]
    return np.concatenate(triangles)


def check_corners(corners: np.ndarray, count: int) -> None:
    """Refuse vertex numbers of which one is none of `count` vertices.

    Raises:
        DataError: There is one.
    """
    wrong = corners[(corners < 0) | (corners >= count)]
    if len(wrong):
        raise DataError(
            f"a face names vertex {wrong[0]}, there are {count} (numbers 0 to {count - 1})"
        )


def strip_triangles(strip: np.ndarray) -> np.ndarray:
    """Triangles `(T - 2, 3)` of a triangle strip of vertex numbers `(T,)`."""
    return np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=1)


def fan_triangles(polygons: np.ndarray) -> np.ndarray:
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
    ears: np.ndarray = np.empty(0)
    if np.isfinite(flat).all():
        ears = mapbox_earcut.triangulate_float64(flat, np.array([len(polygon)], dtype=np.uint32))
    if len(ears) == 0:  # it crosses itself, or is too large to have a plane
        return fan_triangles(polygon[None])
    return polygon[ears.reshape(-1, 3).astype(np.int64)]


_SMALLEST_AREA = 1e-12
"""Faces below this part of the squared diagonal are degenerate: nothing of them can be seen."""


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray | None, num_points: int, seed: int
) -> np.ndarray:
    """Draw points uniformly over the surface, the same ones for the same seed.

    A mesh without a usable face is treated as the cloud of its vertices.

    Args:
        vertices: `(V, 3)` floats.
        faces: `(F, 3)` vertex numbers; degenerate ones are ignored.
        num_points: How many points to draw.
        seed: Start of the random generator.

    Returns:
        Points `(num_points, 3)` float64 in the frame of the vertices.

    Raises:
        DataError: There are no vertices, or a face names one that does not exist.
    """
    vertices = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
    if len(vertices) == 0:
        raise DataError("no vertices: the file holds no geometry")
    kept, areas = usable_faces(vertices, faces)
    if len(kept) == 0:
        drawn = sample_cloud(vertices, num_points, seed)
        return drawn[np.arange(num_points) % len(drawn)]
    corners, weights = _draw_places(kept, areas, num_points, seed)
    return np.einsum("nc,ncd->nd", weights, vertices[corners])


def sampled_vertices(
    vertices: np.ndarray, faces: np.ndarray, num_points: int, seed: int
) -> np.ndarray:
    """Of each point that `sample_surface` draws, the vertex of its face that has most weight.

    Returns:
        Vertex numbers `(num_points,)`; at least one face must be usable.
    """
    corners, weights = _draw_places(*usable_faces(vertices, faces), num_points, seed)
    return corners[np.arange(num_points), weights.argmax(axis=1)]


def _draw_places(
    faces: np.ndarray, areas: np.ndarray, num_points: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places uniform by area: corners of their faces and barycentric weights, `(num_points, 3)`."""
    generator = np.random.default_rng(seed)
    edges = np.cumsum(areas)
    chosen = np.searchsorted(edges, generator.random(num_points) * edges[-1], side="right")
    corners = faces[np.minimum(chosen, len(faces) - 1)]
    root, along = np.sqrt(generator.random(num_points)), generator.random(num_points)
    return corners, np.stack([1 - root, root * (1 - along), root * along], axis=1)


def usable_faces(vertices: np.ndarray, faces: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Faces with an area worth sampling, `(K, 3)`, and their areas `(K,)`.

    Raises:
        DataError: A face names a vertex that does not exist.
    """
    if faces is None or len(faces) == 0:
        return np.empty((0, 3), dtype=np.int64), np.empty(0)
    faces = np.asarray(faces, dtype=np.int64).reshape(-1, 3)
    check_corners(faces, len(vertices))
    corners = vertices[faces]
    sides = corners[:, 1:] - corners[:, :1]
    areas = 0.5 * np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    usable = areas > _SMALLEST_AREA * np.sum(np.ptp(corners, axis=(0, 1)) ** 2)
    return faces[usable], areas[usable]


def sample_cloud(points: np.ndarray, most: int, seed: int) -> np.ndarray:
    """All points if there are at most `most`, else a random subset of that size."""
    if len(points) <= most:
        return points
    return points[np.random.default_rng(seed).choice(len(points), most, replace=False)]
