"""Points on the surface of a triangle mesh."""

import numpy as np

from pointpeft.errors import DataError

__all__ = ["sample_cloud", "sample_surface", "sampled_vertices", "usable_faces"]

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

    Args:
        vertices: `(V, 3)` floats.
        faces: `(F, 3)` vertex numbers, at least one of them usable.
        num_points: As for `sample_surface`.
        seed: As for `sample_surface`.

    Returns:
        Vertex numbers `(num_points,)`.
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
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise DataError(
            f"a face names vertex {int(faces.max() if faces.min() >= 0 else faces.min())}, "
            f"there are {len(vertices)} (numbers 0 to {len(vertices) - 1})"
        )
    corners = vertices[faces]
    sides = corners[:, 1:] - corners[:, :1]
    areas = 0.5 * np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    used = corners.reshape(-1, 3)
    usable = areas > _SMALLEST_AREA * np.sum(np.ptp(used, axis=0) ** 2)
    return faces[usable], areas[usable]


def sample_cloud(points: np.ndarray, most: int, seed: int) -> np.ndarray:
    """All points if there are at most `most`, else a random subset of that size."""
    if len(points) <= most:
        return points
    return points[np.random.default_rng(seed).choice(len(points), most, replace=False)]
