import numpy as np
import pytest
import trimesh

from pointpeft.data import sample_surface
from pointpeft.errors import DataError

# Two triangles in the planes z = 0 and z = 1, the second three times as large.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 0, 1], [0, 1, 1]], dtype=float)
FACES = np.array([[0, 1, 2], [3, 4, 5]])


def test_points_are_drawn_by_area() -> None:
    points = sample_surface(VERTICES, FACES, 4000, seed=0)
    assert points.shape == (4000, 3)
    upper = points[:, 2] > 0.5
    assert np.allclose(points[:, 2], upper)
    assert upper.mean() == pytest.approx(0.75, abs=0.03)


def test_points_are_uniform_inside_a_triangle() -> None:
    points = sample_surface(VERTICES[:3], FACES[:1], 20000, seed=0)
    assert np.allclose(points.mean(axis=0), [1 / 3, 1 / 3, 0], atol=0.01)
    assert (points.sum(axis=1) < 0.5).mean() == pytest.approx(0.25, abs=0.02)


def test_points_lie_on_a_sphere() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    points = sample_surface(mesh.vertices, mesh.faces, 500, seed=0)
    assert np.allclose(np.linalg.norm(points, axis=1), 1, atol=0.02)


def test_seed_fixes_the_choice() -> None:
    first, again, other = (sample_surface(VERTICES, FACES, 50, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_degenerate_faces_get_no_points() -> None:
    line = [[0, 1, 1], [3, 3, 3]]
    points = sample_surface(VERTICES, np.array([[0, 1, 2], *line]), 300, seed=0)
    assert (points[:, 2] == 0).all()


@pytest.mark.parametrize("faces", [None, np.empty((0, 3), int), np.array([[0, 0, 1]])])
def test_without_usable_faces_vertices_are_the_cloud(faces: np.ndarray | None) -> None:
    points = sample_surface(VERTICES, faces, 10, seed=0)
    assert points.shape == (10, 3)
    assert {tuple(point) for point in points} == {tuple(vertex) for vertex in VERTICES}


def test_no_vertices_is_an_error() -> None:
    with pytest.raises(DataError, match="no vertices"):
        sample_surface(np.empty((0, 3)), None, 10, seed=0)


@pytest.mark.parametrize("number", [6, -1])
def test_face_without_its_vertex_is_an_error(number: int) -> None:
    with pytest.raises(DataError, match=f"vertex {number}.* 6"):
        sample_surface(VERTICES, np.array([[0, 1, number]]), 10, seed=0)
