import hashlib
from importlib import resources

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.data import InputTransform, embedded, load_shapes, load_unlabelled
from pointpeft.data.embedded import MechParts, load_mechparts, scan_mechparts
from pointpeft.data.shapes import absolute_source, check_source
from pointpeft.errors import DataError
from tests.documented import few_mechparts

PARTS = ("train", "val", "test")
FOLDER = resources.files("pointpeft.data").joinpath("mechparts")
SMALL = InputTransform(num_points=64)


@pytest.fixture(scope="module")
def data() -> MechParts:
    return load_mechparts()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> MechParts:
    """Some shapes of three classes, in place of all of them."""
    some = few_mechparts()
    monkeypatch.setattr(embedded, "load_mechparts", lambda: some)
    return some


def test_files_are_small_and_have_their_licence():
    with resources.as_file(FOLDER) as folder:
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 15_000_000
    page = FOLDER.joinpath("ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "Apache License" in page
    assert "bd-warehouse" in page


def test_arrays_agree_and_cannot_be_changed(data):
    count = len(data.points)
    assert count >= 3000
    assert data.points.shape == (count, 2048, 3)
    assert data.points.dtype == np.float32
    assert all(len(each) == count for each in (data.labels, data.split, data.series, data.sizes))
    assert len(set(data.ids)) == count
    with pytest.raises(ValueError, match="read-only"):
        data.points[0, 0, 0] = 1


def test_points_fill_the_unit_ball(data):
    for points in np.array_split(data.points, 10):
        radii = np.linalg.norm(points, axis=2)
        assert radii.max() <= 1
        np.testing.assert_allclose(radii.max(axis=1), 1, atol=6e-3)
        np.testing.assert_allclose(points.mean(axis=1), 0, atol=3e-3)


def test_no_two_shapes_are_the_same(data):
    assert len({hashlib.sha256(cloud.tobytes()).digest() for cloud in data.points}) == len(data.ids)


def test_classes_are_on_both_sides_with_enough_to_learn_from(data):
    names = data.class_names
    assert len(set(names)) == len(names) >= 45
    assert set(data.split.tolist()) == set(PARTS)
    assert (data.split == "test").sum() >= 1000
    for label in range(len(names)):
        of_class = data.split[data.labels == label]
        assert (of_class == "train").sum() >= 20  # for few-shot learning with up to 20 shapes
        assert (of_class == "test").sum() >= 4


def test_a_series_is_on_one_side(data):
    sides: dict[tuple[int, str], set[str]] = {}
    for label, series, part in zip(
        data.labels.tolist(), data.series, data.split.tolist(), strict=True
    ):
        sides.setdefault((label, series), set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())


def test_parts_stand_on_their_axis(data):
    """Washers lie flat and screws stand, whatever their series."""
    extent = np.ptp(data.points, axis=1)
    washer = data.labels == data.class_names.index("plain washer")
    assert (extent[washer, 1] < 0.6 * extent[washer, 0]).all()
    screw = data.labels == data.class_names.index("socket head cap screw")
    assert (extent[screw, 1] > extent[screw, 0]).all()
    for cloud in data.points[screw]:  # the head is wider, and above
        upper = cloud[:, 1] > cloud[:, 1].max() - 0.05
        lower = cloud[:, 1] < cloud[:, 1].min() + 0.05
        assert np.ptp(cloud[upper, 0]) > np.ptp(cloud[lower, 0])


@pytest.mark.parametrize("name", ["mechparts", "mechparts-scan"])
def test_the_sets_load_like_any_other(few, name):
    shapes = load_shapes(name, SMALL)
    assert shapes.class_names == few.class_names
    assert shapes.source == name == absolute_source(name)
    for part in PARTS:
        assert len(getattr(shapes, part)) == (few.split == part).sum() > 0
    assert shapes.notes == () == shapes.problems
    assert len(load_unlabelled(name, SMALL)) == (few.split == "train").sum()
    check_source(name)


def test_a_part_is_known_again_in_its_scan(few):
    clean, scans = (load_shapes(name, SMALL) for name in ("mechparts", "mechparts-scan"))
    assert clean.test.ids == scans.test.ids
    assert scans.test.among(clean.test.marks()).all()
    assert not scans.test.among(clean.train.marks()).any()


def test_scans_are_the_same_at_every_call_and_another_one_for_every_part(few):
    first = scan_mechparts(few)
    scan_mechparts.cache_clear()
    again = scan_mechparts(few)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) == len(few.points)
    assert len({len(scan) for scan in first}) > 1


def test_no_variant_of_an_embedded_set(few):
    with pytest.raises(DataError, match=r"data\.variant"):
        load_shapes("mechparts", SMALL, variant="shapenet55")


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(DataError, match="mechparts-scan"):
        pp.load_shapes("mechpart")
