from pathlib import Path

import h5py
import numpy as np
import pytest

from pointpeft.data.benchmarks import DATASETS, read_benchmark
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts

VARIANTS = ("obj_bg", "obj_only", "pb_t50_rs")


@pytest.mark.parametrize(("variant", "count"), list(zip(VARIANTS, (4, 5, 6), strict=True)))
@pytest.mark.parametrize("below", ["", "ScanObjectNN", "ScanObjectNN/h5_files"])
def test_variants_lie_in_one_folder(tmp_path: Path, variant: str, count: int, below: str) -> None:
    folder = layouts.write_scanobjectnn(tmp_path)
    if "h5_files" in below:  # as the owners' archive unpacks
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        (tmp_path / "moved").rename(folder / "h5_files")
    split = read_benchmark(f"scanobjectnn_{variant}", tmp_path / below, "train")
    assert split.points.shape == (count, 25, 3)
    assert split.labels.tolist() == [place % 2 for place in range(count)]
    assert len(read_benchmark(variant, tmp_path, "test")) == count - 2


def test_points_are_as_stored(tmp_path: Path) -> None:
    folder = layouts.write_scanobjectnn(tmp_path)
    split = read_benchmark("obj_only", folder, "test")
    with h5py.File(folder / "main_split_nobg/test_objectdataset.h5") as file:
        assert np.array_equal(split.points, file["data"][:])
    assert split.ids[1] == "test_objectdataset:1"


def test_half_present_variant_marks_what_is_missing(tmp_path: Path) -> None:
    folder = layouts.write_scanobjectnn(tmp_path)
    (folder / "main_split/test_objectdataset.h5").unlink()
    assert len(read_benchmark("obj_bg", folder, "train")) == 4
    with pytest.raises(DataError, match=r"test_objectdataset\.h5 .*<-- missing") as caught:
        read_benchmark("obj_bg", folder, "test")
    assert str(caught.value).count("<-- missing") == 1
    assert "hkust-vgd.github.io/scanobjectnn" in str(caught.value)


def test_published_description() -> None:
    names = DATASETS["scanobjectnn_obj_bg"].class_names
    assert len(names) == 15
    assert (names[0], names[14]) == ("bag", "toilet")
    assert DATASETS["scanobjectnn_pb_t50_rs"].counts == {"train": 11416, "test": 2882}


@pytest.mark.parametrize("variant", VARIANTS)
def test_real_layout(real: Path, variant: str) -> None:
    split = read_benchmark(variant, real, "train")
    assert split.points.shape == (150, 2048, 3)
    assert set(split.labels.tolist()) == set(range(15))
    assert len(read_benchmark(variant, real, "test")) == 69
