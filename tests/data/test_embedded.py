from importlib import resources

import numpy as np
import pytest

from pointpeft.data.embedded import HomeObjects, load_homeobjects

PARTS = ("train", "val", "test")
FOLDER = resources.files("pointpeft.data").joinpath("homeobjects")


@pytest.fixture(scope="module")
def data() -> HomeObjects:
    return load_homeobjects()


def test_file_is_small():
    with resources.as_file(FOLDER.joinpath("homeobjects.npz")) as path:
        assert path.stat().st_size <= 6_000_000


def test_arrays_agree_in_length_and_type(data):
    count = len(data.points)
    assert data.points.shape == (count, 1024, 3)
    assert data.points.dtype == np.float32
    assert data.labels.dtype == data.groups.dtype == np.int64
    for part in (data.labels, data.split, data.groups, data.ids, data.titles):
        assert len(part) == count
    assert len(set(data.ids)) == count


def test_points_are_finite_and_fill_the_unit_ball(data):
    radii = np.linalg.norm(data.points, axis=2)
    assert np.isfinite(data.points).all()
    assert radii.max() <= 1
    np.testing.assert_allclose(radii.max(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(data.points.mean(axis=1), 0, atol=1e-3)


def test_no_two_shapes_are_the_same(data):
    assert len({cloud.tobytes() for cloud in data.points}) == len(data.points)


def test_prefix_covers_the_shape_evenly(data):
    for cloud in data.points[:: len(data.points) // 20]:
        prefix, rest = cloud[:256].astype(np.float64), cloud[256:].astype(np.float64)
        gaps = np.linalg.norm(prefix[:, None] - prefix[None], axis=2)
        np.fill_diagonal(gaps, np.inf)
        reach = np.linalg.norm(rest[:, None] - prefix[None], axis=2).min(axis=1)
        assert reach.max() <= gaps.min() + 1e-3


def test_every_class_is_large_enough_and_in_every_part(data):
    assert len(set(data.class_names)) == len(data.class_names) >= 10
    for label in range(len(data.class_names)):
        members = data.split[data.labels == label]
        assert len(members) >= 15
        counts = {part: int((members == part).sum()) for part in PARTS}
        assert sum(counts.values()) == len(members)
        assert counts["train"] >= 8
        assert counts["val"] >= 3
        assert counts["test"] >= 4


def test_unlabelled_shapes_are_those_without_a_class(data):
    assert set(data.split.tolist()) == {*PARTS, "unlabelled"}
    np.testing.assert_array_equal(data.labels == -1, data.split == "unlabelled")
    assert data.labels.min() == -1
    assert data.labels.max() == len(data.class_names) - 1


def test_groups_do_not_cross_parts(data):
    for part in PARTS:
        inside = data.split == part
        shared = np.intersect1d(data.groups[inside], data.groups[~inside])
        if part == "train":  # shapes without a class may resemble training shapes
            unlabelled = data.groups[data.split == "unlabelled"]
            shared = np.setdiff1d(shared, unlabelled)
        assert shared.size == 0


def test_attribution_names_every_shape_with_an_accepted_licence(data):
    page = FOLDER.joinpath("ATTRIBUTION.md").read_text(encoding="utf-8")
    rows = {
        cells[0].strip("` "): [cell.strip() for cell in cells]
        for line in page.splitlines()
        if line.startswith("| `") and (cells := line.strip("|").split(" | "))
    }
    assert set(rows) == set(data.ids)
    for model_id, title in zip(data.ids, data.titles, strict=True):
        cells = rows[model_id]
        assert cells[1] == title
        assert cells[2]
        assert cells[4] in {"CC BY 3.0", "CC BY 3.0 US", "CC0 1.0"}


def test_arrays_cannot_be_changed(data):
    with pytest.raises(ValueError, match="read-only"):
        data.points[0, 0, 0] = 1
