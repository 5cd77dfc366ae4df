"""Polygons as triangles: the same area, whatever their form."""

import numpy as np
import pytest

from pointpeft.data.triangles import triangulate
from pointpeft.errors import DataError


def shoelace(corners: np.ndarray) -> float:
    x, y = corners.T
    return float(0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def area(points: np.ndarray, triangles: np.ndarray) -> float:
    corners = points[triangles]
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(0.5 * np.linalg.norm(sides, axis=1).sum())


@pytest.mark.parametrize("count", [4, 5, 8, 30, 200])
def test_star_shaped_polygons_keep_their_area(count: int) -> None:
    generator = np.random.default_rng(count)
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radii = generator.uniform(0.2, 1.0, count)
    flat = np.stack([radii * np.cos(turns), radii * np.sin(turns)], axis=1)
    plane = np.linalg.qr(generator.normal(size=(3, 3)))[0][:2]
    points = flat @ plane * 1000 + [4e5, 5e6, 100]
    triangles = triangulate(points, np.arange(count), [count])
    assert len(triangles) == count - 2
    assert area(points, triangles) == pytest.approx(shoelace(flat) * 1e6, rel=1e-6)


def test_polygons_of_all_sizes_together() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.1, 0]])
    triangles = triangulate(points, [0, 1, 0, 1, 2, 0, 4, 1, 2, 3, 0, 1, 2, 3], [2, 3, 5, 4])
    assert area(points, triangles) == pytest.approx(0.5 + 0.95 + 1)


def test_corners_that_do_not_exist_are_refused() -> None:
    for corners in ([0, 1, 3], [-1, 0, 1]):
        with pytest.raises(DataError, match=str(corners[2] if corners[0] == 0 else -1)):
            triangulate(np.zeros((3, 3)), corners, [3])


def test_corners_that_are_not_finite_do_no_harm() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [np.nan, 1, 0], [0, np.inf, 0], [0, 1, 0]])
    assert triangulate(points, [0, 1, 2, 3, 4], [5]).shape == (3, 3)
