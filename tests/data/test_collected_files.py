"""Files as people have them, collected beside the repository, each with what it holds."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import KDTree

from pointpeft.data import InputTransform, RawShape, read_shape
from pointpeft.errors import DataError
from tests.data.solids import area

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "reading"
CASES = json.loads((FOLDER / "cases.json").read_text()) if FOLDER.is_dir() else []
KNOWN = {"points", "area", "extent", "seg", "segmented", "note", "error"}


def assert_same_points(shape: RawShape, want: dict[str, Any]) -> None:
    """The same set of points, with the same labels where they have some."""
    points = np.asarray(want["points"], dtype=float)
    for first, second in ((shape.points, points), (points, shape.points)):
        assert KDTree(first).query(second)[0].max() < 2e-4
    if "seg" in want:
        assert shape.seg is not None
        nearest = KDTree(shape.points).query(points)[1]
        assert shape.seg[nearest].tolist() == want["seg"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_file_holds_what_its_case_says(case: dict[str, Any]) -> None:
    want = case["expect"]
    assert want
    assert set(want) <= KNOWN
    path, segmented = FOLDER / case["file"], want.get("segmented", False)
    if "error" in want:
        with pytest.raises(DataError):
            read_shape(path, segmented)
        return
    shape = read_shape(path, segmented)
    check(shape, want)
    if shape.faces is not None or len(shape.points) >= 16:
        InputTransform(num_points=64).prepare(shape)


def check(shape: RawShape, want: dict[str, Any]) -> None:
    if "points" in want:
        assert_same_points(shape, want)
    if "extent" in want:
        extent = np.ptp(shape.points, axis=0)
        assert extent.tolist() == pytest.approx(want["extent"], rel=1e-4, abs=1e-5)
    if "area" in want:
        assert area(shape) == pytest.approx(want["area"], rel=1e-3)
    if "note" in want:
        assert any(re.search(want["note"], note) for note in shape.notes)


def test_the_collection_is_there() -> None:
    if not CASES:
        pytest.skip(f"collected files are not at {FOLDER}")
    assert len(CASES) >= 100
