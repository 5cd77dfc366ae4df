from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pointpeft.data.scanning import ScanConfig, simulate_scan
from pointpeft.data.transforms import recipe
from pointpeft.errors import ConfigError, DataError

STILL = ScanConfig(rotation=0, tilt=0, elevation=(0, 0), occlusion=0, crop=0, noise=0, outliers=0)
"""A camera on the z axis that sees all of the near side, and sees it right."""


@pytest.fixture(scope="module")
def sphere() -> np.ndarray:
    """A unit sphere around the origin, of 4,096 points."""
    half = np.random.default_rng(0).normal(size=(2048, 3))
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    return np.vstack([half, -half])


def test_a_seed_makes_a_scan(sphere):
    first = simulate_scan(sphere, 3)
    assert first.shape[1] == 3
    assert np.array_equal(first, simulate_scan(sphere, np.random.default_rng(3)))
    other = simulate_scan(sphere, 4)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_scan_far_from_the_origin_is_as_fine(sphere):
    away = np.array([5e6, 0, 0])
    near, far = simulate_scan(sphere, 0), simulate_scan(sphere + away, 0)
    assert near.dtype == far.dtype == np.float64
    np.testing.assert_allclose(far - away, near, atol=1e-6)
    for kind, found in ((np.float32, np.float32), (np.int16, np.float32), (np.int64, np.float64)):
        assert simulate_scan((1000 * sphere).astype(kind), 0).dtype == found


def test_the_shape_is_not_changed(sphere):
    before = sphere.copy()
    simulate_scan(sphere, 0)
    assert np.array_equal(sphere, before)


def test_the_camera_sees_one_side_and_all_of_it(sphere):
    scan = simulate_scan(sphere, 0, STILL)
    edge = 1 / STILL.distance  # of what a camera at that distance sees of a unit sphere
    assert scan[:, 2].min() > edge - 0.2
    seen = sphere[sphere[:, 2] > edge + 0.1]
    gaps = cKDTree(scan).query(seen)[0]
    assert gaps.max() < 0.15


def test_seen_points_are_points_of_the_surface(sphere):
    gaps = cKDTree(sphere).query(simulate_scan(sphere, 0, STILL))[0]
    assert gaps.max() < 1e-5


def test_what_is_in_front_hides_what_is_behind():
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 2), axis=-1).reshape(-1, 2)
    front, back = (
        np.column_stack([grid * size, np.full(1600, z)]) for size, z in ((1, 0.5), (0.7, -0.5))
    )
    scan = simulate_scan(np.vstack([front, back]), 0, STILL)
    assert scan[:, 2].min() > 0


def test_grazing_surfaces_are_thinner(sphere):
    scan = simulate_scan(sphere, 0, replace(STILL, resolution=32))
    area = np.histogram(sphere[:, 2], bins=[0.35, 0.6, 0.8, 1.0])[0]
    share = np.histogram(scan[:, 2], bins=[0.35, 0.6, 0.8, 1.0])[0] / area
    assert (np.diff(share) > 0).all()


def test_noise_lies_along_the_view_ray(sphere):
    clean, noisy = (simulate_scan(sphere, 0, replace(STILL, noise=n)) for n in (0.0, 0.02))
    moved = noisy - clean
    rays = clean - np.array([0, 0, STILL.distance])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    along = (moved * rays).sum(axis=1)
    np.testing.assert_allclose(moved, along[:, None] * rays, atol=1e-5)
    assert along.std() == pytest.approx(0.02, rel=0.15)


def test_outliers_are_as_many_as_asked_for(sphere):
    scan = simulate_scan(sphere, 0, replace(STILL, outliers=0.3))
    far = np.abs(np.linalg.norm(scan, axis=1) - 1) > 1e-4
    assert far.mean() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("name", ["occlusion", "crop"])
def test_missing_pieces_are_at_most_as_large_as_asked_for(sphere, name):
    whole = len(simulate_scan(sphere, 0, STILL))
    left = np.array(
        [len(simulate_scan(sphere, s, replace(STILL, **{name: 0.5}))) / whole for s in range(20)]
    )
    assert left.min() >= 0.5
    assert left.min() < 0.7
    assert left.max() > 0.9


def test_unit_and_place_do_not_matter(sphere):
    scan, moved = simulate_scan(sphere, 1), simulate_scan(sphere * 50 + [7, -3, 200], 1)
    np.testing.assert_allclose((moved - [7, -3, 200]) / 50, scan, atol=1e-4)


def test_a_turn_about_y_keeps_heights():
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3)) * [0.2, 1, 0.2]
    scan = simulate_scan(points, 0, replace(STILL, rotation=180))
    heights = np.sort(points[:, 1])
    nearest = np.abs(heights[:, None] - scan[:, 1]).min(axis=0)
    assert nearest.max() < 1e-5


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((100, 2)),
        np.zeros((20, 3)),
        np.zeros((100, 3)),
        np.full((100, 3), np.nan),
        np.array([["a"] * 3] * 100),
    ],
)
def test_what_is_no_surface_is_refused(points):
    with pytest.raises(DataError, match="points"):
        simulate_scan(points)


def test_points_on_a_line_are_seen_or_refused():
    line = np.linspace(-1, 1, 100)[:, None] * np.array([1.0, 0, 0])
    with pytest.raises(DataError, match="line"):
        simulate_scan(line, 0, STILL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotation", 200),
        ("tilt", -1),
        ("elevation", (10, -10)),
        ("elevation", (0, 100)),
        ("elevation", 30),
        ("elevation", (1, 2, 3)),
        ("elevation", ("a", 3)),
        ("distance", 1.0),
        ("resolution", 0),
        ("occlusion", 1.0),
        ("crop", -0.1),
        ("noise", -1),
        ("noise", float("nan")),
        ("outliers", 1.5),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        ScanConfig(**{name: value})


def test_a_seed_that_is_none_is_refused(sphere):
    for seed in (-1, "a"):
        with pytest.raises(ConfigError, match="generator"):
            simulate_scan(sphere, seed)


def test_points_that_are_not_finite_are_counted(sphere):
    sphere = sphere.copy()
    sphere[:3, 1] = np.nan
    with pytest.raises(DataError, match=f"3 of {len(sphere)}"):
        simulate_scan(sphere)


def test_the_augmentation_gives_scans_in_the_unit_ball(sphere):
    clouds = torch.from_numpy(sphere).float().expand(4, -1, -1)
    augment = recipe("scan", 256)
    scans = augment(clouds, torch.Generator().manual_seed(0))
    assert scans.shape == (4, 256, 3)
    assert scans.dtype == clouds.dtype
    torch.testing.assert_close(scans.mean(dim=1), torch.zeros(4, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(scans.norm(dim=2).amax(dim=1), torch.ones(4))
    assert not torch.equal(scans[0], scans[1])
    assert torch.equal(scans, augment(clouds, torch.Generator().manual_seed(0)))


def test_the_augmentation_has_no_part_labels(sphere):
    clouds = torch.from_numpy(sphere).float()[None]
    with pytest.raises(ConfigError, match="scan"):
        recipe("scan", 256).with_labels(clouds, torch.zeros(1, len(sphere)).long())
