import json
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import (
    InputStatistics,
    InputTransform,
    RawShape,
    load_shapes,
    read_shape,
)
from pointpeft.errors import DataError

TRANSFORM = InputTransform(num_points=256)


def tall_cloud(seed: int, num_points: int = 1000, size: float = 1.0) -> np.ndarray:
    """A slim upright ellipsoid of about the given height."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(num_points, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points * size * [0.25, 1.0, 0.25] * generator.uniform(0.9, 1.1, size=3)


@pytest.fixture(scope="module")
def statistics() -> InputStatistics:
    clouds = [tall_cloud(seed, size=1 + 0.05 * seed) for seed in range(20)]
    radii = [np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).max() for cloud in clouds]
    return InputStatistics.from_raw([1000] * 20, radii, np.stack(clouds))


def test_statistics_describe_the_training_shapes(statistics: InputStatistics) -> None:
    assert statistics.num_shapes == 20
    assert statistics.point_counts == (1000,) * 5
    assert statistics.radius[0] < statistics.radius[1] < statistics.radius[2] < 2.2
    assert statistics.log_extent_mean[1] == pytest.approx(np.log(2), abs=0.1)


def test_json_round_trip(statistics: InputStatistics) -> None:
    text = json.dumps(statistics.to_dict())
    assert InputStatistics.from_dict(json.loads(text)) == statistics


def test_unknown_keys_are_refused(statistics: InputStatistics) -> None:
    with pytest.raises(DataError, match="mood"):
        InputStatistics.from_dict(statistics.to_dict() | {"mood": 1})


def test_similar_shape_gives_no_warning(statistics: InputStatistics) -> None:
    for seed in range(50, 80):
        assert statistics.check(tall_cloud(seed), TRANSFORM) == []


def test_sparse_cloud_is_named(statistics: InputStatistics) -> None:
    (warning,) = statistics.check(tall_cloud(50, 100), TRANSFORM)
    assert all(number in warning for number in ("100", "256"))
    (warning,) = statistics.check(tall_cloud(50, 300), TRANSFORM)
    assert all(number in warning for number in ("300", "1000"))


def test_few_vertices_of_a_mesh_are_no_matter(statistics: InputStatistics) -> None:
    corners = np.array([[x, y, z] for x in (-0.2, 0.2) for y in (-1, 1) for z in (-0.2, 0.2)])
    faces = np.array([[0, 1, 3], [4, 5, 7], [0, 2, 6], [1, 3, 7], [2, 3, 7], [0, 1, 5]])
    assert statistics.check(RawShape(corners, faces, "mesh"), TRANSFORM) == []


@pytest.mark.parametrize(
    ("size", "word"),
    [(2000.0, "millimetres against metres"), (0.01, "centimetres against metres"), (1e5, "larger")],
)
def test_other_unit_is_named(statistics: InputStatistics, size: float, word: str) -> None:
    (warning,) = statistics.check(tall_cloud(50, size=size), TRANSFORM)
    assert word in warning
    assert "harmless" in warning
    (warning,) = statistics.check(tall_cloud(50, size=size), InputTransform(256, "none"))
    assert "harmless" not in warning


def test_normalized_training_files_say_nothing_about_units() -> None:
    clouds = np.stack([tall_cloud(seed) for seed in range(5)])
    known = InputStatistics.from_raw([0] * 5, [1.0] * 5, clouds)
    assert known.check(tall_cloud(9, size=1000.0), TRANSFORM) == []


@pytest.mark.parametrize("lying_along", ["x", "z"])
def test_other_up_axis_is_suggested(statistics: InputStatistics, lying_along: str) -> None:
    lying = tall_cloud(50)[:, np.roll([0, 1, 2], "xyz".index(lying_along) - 1)]
    (warning,) = statistics.check(lying, TRANSFORM)
    assert f"up_axis={lying_along}" in warning
    assert statistics.check(lying, InputTransform(256, up_axis=lying_along)) == []


def test_shape_unlike_any_turn_gets_no_axis_advice(statistics: InputStatistics) -> None:
    ball = tall_cloud(50) * [4, 1, 4]
    assert statistics.check(ball, TRANSFORM) == []


def test_statistics_come_from_training_files_only(mesh_folder: Path) -> None:
    data = load_shapes(mesh_folder, InputTransform(64))
    assert data.statistics is not None
    assert data.statistics.num_shapes == len(data.train)
    assert data.statistics.point_counts == ()


def test_few_false_alarms_on_real_meshes(shared_dir: Path) -> None:
    data = load_shapes(shared_dir / "meshes", TRANSFORM)
    assert data.statistics is not None
    held_out = (*data.val.ids, *data.test.ids)
    alarms = [
        item
        for item in held_out
        if data.statistics.check(read_shape(shared_dir / "meshes" / item), TRANSFORM)
    ]
    assert len(alarms) <= len(held_out) // 10


def test_real_scan_in_another_unit_is_named(shared_dir: Path) -> None:
    data = load_shapes(shared_dir / "meshes", TRANSFORM, val_fraction=0.0)
    assert data.statistics is not None
    scan = read_shape(shared_dir / "scans" / "Guitar.npy")
    larger = RawShape(scan.points * 1e6, None, "scan")
    (warning,) = data.statistics.check(larger, TRANSFORM)
    assert "larger" in warning
