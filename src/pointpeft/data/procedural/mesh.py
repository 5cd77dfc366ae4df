"""Small triangle meshes and what is done with them: made from curves, bent, placed, sampled."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray
"""Shapes are in the docstrings of what takes and returns it."""


class Mesh(NamedTuple):
    """Triangles: ``vertices (V, 3)`` and ``faces (F, 3)``, places in the vertices."""

    vertices: Array
    faces: Array

    def moved(self, shift: Array | Sequence[float]) -> "Mesh":
        """Translated by ``shift (3,)``."""
        return Mesh(self.vertices + np.asarray(shift), self.faces)

    def scaled(self, factor: Array | Sequence[float] | float) -> "Mesh":
        """Scaled about the origin, by one factor or by ``(3,)``, one per axis."""
        return Mesh(self.vertices * np.asarray(factor), self.faces)

    def turned(self, matrix: Array) -> "Mesh":
        """Every vertex multiplied by ``matrix (3, 3)``."""
        return Mesh(self.vertices @ matrix.T, self.faces)

    def warped(self, change: Callable[[Array], Array]) -> "Mesh":
        """With vertices replaced by ``change(vertices)``."""
        return Mesh(change(self.vertices), self.faces)


def rotation(axis: Sequence[float] | Array, angle: float) -> Array:
    """Rotation matrix by ``angle`` radians about ``axis`` (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _grid(points: Array, wrap_rows: bool = False, wrap_columns: bool = False) -> Mesh:
    """Two triangles for every cell of a grid of points ``(R, C, 3)``."""
    R, C = points.shape[:2]
    rows, columns = np.arange(R if wrap_rows else R - 1), np.arange(C if wrap_columns else C - 1)
    i, j = (a.ravel() for a in np.meshgrid(rows, columns, indexing="ij"))
    below, right = (i + 1) % R, (j + 1) % C
    corners = i * C + j, below * C + j, below * C + right, i * C + right
    faces = np.concatenate([np.stack([corners[k] for k in (0, t, t + 1)], 1) for t in (1, 2)])
    return Mesh(points.reshape(-1, 3), faces)


def revolve(profile: Array, segments: int = 20, arc: float = 2 * np.pi) -> Mesh:
    """Surface of revolution about y of a curve ``(P, 2)`` of (radius, height)."""
    angles = np.linspace(0, arc, segments + 1)
    radius, height = profile[:, 0, None], np.broadcast_to(profile[:, 1, None], (len(profile), 1))
    points = np.stack(
        [radius * np.cos(angles), height + 0 * angles, radius * np.sin(angles)], axis=-1
    )
    return _grid(points)


def extrude(outline: Array, height: float, rings: int = 4) -> Mesh:
    """Prism over a star-shaped outline ``(P, 2)`` in xz, from y = 0, with both caps.

    Rings subdivide the walls, so that the prism can be bent.
    """
    center = np.broadcast_to(outline.mean(axis=0), outline.shape)
    levels = [(center, 0.0), *((outline, h) for h in np.linspace(0, height, rings + 1))]
    levels.append((center, height))
    points = np.stack(
        [np.stack([flat[:, 0], np.full(len(flat), h), flat[:, 1]], -1) for flat, h in levels]
    )
    return _grid(points, wrap_columns=True)


def superquadric(roundness: tuple[float, float], rows: int = 10, columns: int = 20) -> Mesh:
    """Unit superquadric (Barr 1981); exponents below 1 are boxy, 1 is a sphere, 2 an octahedron."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    longitude = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]

    def power(x: Array, exponent: float) -> Array:
        return np.sign(x) * np.abs(x) ** exponent

    flat = power(np.cos(latitude), roundness[0])
    points = np.stack(
        [
            flat * power(np.cos(longitude), roundness[1]),
            power(np.sin(latitude), roundness[0]) + 0 * longitude,
            flat * power(np.sin(longitude), roundness[1]),
        ],
        axis=-1,
    )
    return _grid(points, wrap_columns=True)


def sheet(height: Callable[[Array, Array], Array], resolution: int = 14) -> Mesh:
    """The graph y = height(x, z) over the square [-1, 1]^2."""
    x, z = np.meshgrid(*2 * [np.linspace(-1, 1, resolution + 1)], indexing="ij")
    return _grid(np.stack([x, height(x, z), z], axis=-1))


def frames(path: Array, closed: bool = False) -> tuple[Array, Array]:
    """Two unit normals ``(P, 3)`` at every point of a curve ``(P, 3)``, with little twist."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    # The axis least along the curve stays clear of every tangent of a gently bent one.
    helper = np.eye(3)[np.abs(ahead).max(axis=0).argmin()]
    side = np.cross(ahead, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    return side, np.cross(side, ahead)


def sweep(path: Array, radius: Array | float, sides: int = 8, closed: bool = False) -> Mesh:
    """Tube of ``radius (P,)`` along a curve ``(P, 3)``; its ends are closed by cones."""
    side, up = frames(path, closed)
    radius = np.broadcast_to(radius, len(path))
    if not closed:
        path = path[[0, *range(len(path)), -1]]
        side, up = (a[[0, *range(len(a)), -1]] for a in (side, up))
        radius = np.concatenate([[0.0], radius, [0.0]])
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[None, :, None]
    ring = np.cos(angle) * side[:, None] + np.sin(angle) * up[:, None]
    points = path[:, None] + radius[:, None, None] * ring
    return _grid(points, wrap_rows=closed, wrap_columns=True)
