from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from pointpeft.data import InputTransform, RawShape
from pointpeft.data.prepare import Prepared
from pointpeft.errors import DataError
from pointpeft.ops import farthest_point_sample

SMALL = InputTransform(num_points=64)


def as_cloud(points: np.ndarray) -> RawShape:
    return RawShape(points, None, "cloud")


def as_mesh(mesh: trimesh.Trimesh) -> RawShape:
    return RawShape(np.asarray(mesh.vertices), np.asarray(mesh.faces), "mesh")


def test_cloud_fills_the_unit_ball(cloud: np.ndarray) -> None:
    points = SMALL.prepare(as_cloud(cloud))
    assert points.shape == (128, 3)
    assert points.dtype == np.float32
    assert np.allclose(points.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)


def test_result_does_not_depend_on_place_and_unit(cloud: np.ndarray) -> None:
    near = SMALL.prepare(as_cloud(cloud[:100]))
    far = SMALL.prepare(as_cloud(cloud[:100] * 1000 + 5e6))
    assert np.allclose(near, far, atol=1e-5)


def test_no_normalization_keeps_coordinates(cloud: np.ndarray) -> None:
    points = InputTransform(64, normalize="none").prepare(as_cloud(cloud))
    known = {tuple(point) for point in cloud.astype(np.float32)}
    assert {tuple(point) for point in points} <= known


def test_rows_are_in_farthest_point_order(cloud: np.ndarray) -> None:
    points = SMALL.prepare(as_cloud(cloud), num_stored=200)
    order = farthest_point_sample(torch.from_numpy(points)[None], 200)[0]
    assert order.tolist() == list(range(200))


def test_prefix_is_an_even_subsample(cloud: np.ndarray) -> None:
    points = SMALL.prepare(as_cloud(cloud))
    distances = np.linalg.norm(points[:, None] - points[None, :32], axis=2).min(axis=1)
    gap = np.linalg.norm(points[:32, None] - points[None, :32], axis=2)
    assert distances.max() <= gap[~np.eye(32, dtype=bool)].min() + 1e-6


def test_small_cloud_repeats_its_points(cloud: np.ndarray) -> None:
    points = SMALL.prepare(as_cloud(cloud[:40]), num_stored=100)
    assert len(np.unique(points[:40], axis=0)) == 40
    assert np.array_equal(points[40:80], points[:40])
    assert np.array_equal(points[80:], points[:20])


def test_copies_within_a_cloud_do_not_crowd_out_points(cloud: np.ndarray) -> None:
    points = SMALL.prepare(as_cloud(np.repeat(cloud[:50], 2, axis=0)))
    assert len(np.unique(points[:50], axis=0)) == 50
    assert np.unique(points, axis=0, return_counts=True)[1].max() <= 3


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_up_axis_becomes_y_by_a_proper_rotation(axis: str) -> None:
    up = "xyz".index(axis)
    arrow = np.random.default_rng(0).uniform(-0.1, 0.1, size=(64, 3))
    arrow[:, up] += np.arange(64.0)
    transform = InputTransform(64, up_axis=axis, normalize="none")
    points = transform.prepare(as_cloud(arrow), num_stored=64).astype(float)
    assert points[:, 1].max() > 60
    assert abs(points[:, [0, 2]]).max() < 1
    turned = np.stack([transform.turn_upright(row[None])[0] for row in np.eye(3)])
    assert np.linalg.det(turned) == pytest.approx(1)


def test_content_and_seed_fix_the_choice(cloud: np.ndarray) -> None:
    mesh = as_mesh(trimesh.creation.box())
    renamed = RawShape(mesh.points, mesh.faces, "other name")
    assert np.array_equal(SMALL.prepare(mesh), SMALL.prepare(renamed))
    assert not np.array_equal(SMALL.prepare(mesh), SMALL.prepare(mesh, seed=1))


def test_batch_equals_single(cloud: np.ndarray) -> None:
    shapes = [as_cloud(cloud), as_mesh(trimesh.creation.box()), as_cloud(cloud[:30])]
    for shape, prepared in zip(shapes, SMALL.prepare_batch(shapes), strict=True):
        assert not isinstance(prepared, DataError)
        assert np.array_equal(prepared.points, SMALL.prepare(shape))


def test_inputs_are_the_first_rows(cloud: np.ndarray) -> None:
    copies = as_cloud(np.repeat(cloud[:50], 2, axis=0))
    few, mesh = as_cloud(cloud[:30]), as_mesh(trimesh.creation.box())
    parts = RawShape(cloud, None, "parts", seg=np.arange(len(cloud)))
    shapes = [as_cloud(cloud), mesh, few, copies, parts, as_cloud(np.ones((50, 3)))]
    for stored, seen in zip(SMALL.prepare_batch(shapes), SMALL.prepare_inputs(shapes), strict=True):
        if isinstance(stored, DataError):
            assert str(seen) == str(stored)
            continue
        assert isinstance(seen, Prepared)
        assert np.array_equal(seen.points, stored.points[: SMALL.num_points])
        if stored.seg is not None:
            assert np.array_equal(seen.seg, stored.seg[: SMALL.num_points])
        assert replace(seen, points=stored.points, seg=stored.seg) == stored


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.array([[0, 0, np.nan], [1, 1, 1]]), "1 of 2"),
        (np.array([[0, 0, np.inf], [1, 1, 1]]), "1 of 2"),
        (np.ones((50, 3)), "50"),
        (np.empty((0, 3)), "no points"),
        (np.array([[0, 0, 1e30], [1, 1, 1]]), r"1e\+30"),
        (1e-300 * np.random.default_rng(0).normal(size=(50, 3)), "e-"),
    ],
)
def test_bad_geometry_is_refused_by_name(points: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=f"cloud: .*{reason}"):
        SMALL.prepare(as_cloud(points))


def test_too_few_stored_points_are_refused(cloud: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"num_stored=32.*num_points=64"):
        SMALL.prepare(as_cloud(cloud), num_stored=32)


def test_settings_survive_a_round_trip() -> None:
    transform = InputTransform(512, "none", "z")
    assert InputTransform.from_dict(transform.to_dict()) == transform


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(DataError, match="'scale'"):
        InputTransform.from_dict({"num_points": 8, "scale": 2})


@pytest.mark.parametrize(
    "settings",
    [
        {"up_axis": "w"},
        {"normalize": "box"},
        {"num_points": 0},
        {"num_points": 1.5},
        {"version": 2},
    ],
)
def test_bad_settings_are_refused(settings: dict) -> None:
    with pytest.raises(DataError, match=next(iter(settings))):
        InputTransform(**settings)
