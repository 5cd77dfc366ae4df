"""What several programs share: their result, turned and mirrored copies, simple outlines."""

import numpy as np

from pointpeft.data.procedural.mesh import Array, Mesh, rotation

__all__ = ["Y_TO_Z", "Part", "Y", "around", "circle", "mirrored", "rectangle"]

Part = tuple[str, Mesh]
"""A name and its surface."""

Y = np.array([0.0, 1.0, 0.0])
"""The direction that points up, ``(3,)``."""

Y_TO_Z = rotation([1, 0, 0], np.pi / 2)
"""Turns what stands along y so that it lies along z, ``(3, 3)``."""


def mirrored(mesh: Mesh) -> Mesh:
    """The mirror image across the yz plane."""
    return mesh.scaled([-1, 1, 1])


def around(mesh: Mesh, count: int) -> list[Mesh]:
    """``count`` copies turned about y, evenly."""
    return [mesh.turned(rotation(Y, 2 * np.pi * k / count)) for k in range(count)]


def circle(count: int, height: float, radius: float) -> Array:
    """Points evenly on a horizontal circle about y, ``(count, 3)``; a single one is its center."""
    if count == 1:
        return np.array([[0.0, height, 0.0]])
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([radius * np.cos(angle), np.full(count, height), radius * np.sin(angle)], 1)


def rectangle() -> Array:
    """Outline of the square from -1 to 1 with the middles of its sides, ``(8, 2)``."""
    return np.array([[-1, -1], [-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1.0]])
