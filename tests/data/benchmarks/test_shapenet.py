from pathlib import Path

import numpy as np
import pytest

from pointpeft.data.benchmarks import DATASETS, read_benchmark
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts


def test_lists_give_the_order_and_names_the_class(tmp_path: Path) -> None:
    folder = layouts.write_shapenet(tmp_path)
    split = read_benchmark("shapenet55", tmp_path, "train")
    assert split.ids == ("03001627-b", "02691156-a", "03001627-a")
    assert [split.class_names[label] for label in split.labels] == [
        "03001627",
        "02691156",
        "03001627",
    ]
    assert split.points.shape == (3, 40, 3)
    stored = np.load(folder / "shapenet_pc/02691156-a.npy")
    assert np.array_equal(split.points[1], stored)


def test_whole_is_test_before_train(tmp_path: Path) -> None:
    folder = layouts.write_shapenet(tmp_path)
    split = read_benchmark("shapenet55", folder, "whole")
    assert split.ids == ("02691156-b", "03001627-b", "02691156-a", "03001627-a")


def test_missing_and_unknown_lines_are_named(tmp_path: Path) -> None:
    folder = layouts.write_shapenet(tmp_path)
    (folder / "shapenet_pc/03001627-b.npy").unlink()
    with pytest.raises(DataError, match=r"train\.txt: 1\D+3\D.*03001627-b\.npy"):
        read_benchmark("shapenet55", tmp_path, "train")
    np.save(folder / "shapenet_pc/airplane-1.npy", np.zeros((40, 3)))
    layouts.write_lines(folder / "ShapeNet-55/test.txt", ["airplane-1.npy"])
    with pytest.raises(DataError, match=r"test\.txt: 'airplane-1\.npy'"):
        read_benchmark("shapenet55", tmp_path, "test")
    layouts.write_lines(folder / "ShapeNet-55/test.txt", [])
    with pytest.raises(DataError, match=r"test\.txt"):
        read_benchmark("shapenet55", tmp_path, "test")


@pytest.mark.parametrize("kind", ["cut", "objects", "flat", "short"])
def test_damaged_cloud_is_named(tmp_path: Path, kind: str) -> None:
    path = layouts.write_shapenet(tmp_path) / "shapenet_pc/02691156-a.npy"
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif kind == "objects":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros(12) if kind == "flat" else np.zeros((39, 3)))
    with pytest.raises(DataError, match=r"02691156-a\.npy: "):
        read_benchmark("shapenet55", tmp_path, "train")


def test_published_classes_are_55_sorted_synsets() -> None:
    names = DATASETS["shapenet55"].class_names
    assert len(set(names)) == 55
    assert list(names) == sorted(names)


def test_real_layout(real: Path) -> None:
    split = read_benchmark("shapenet55", real, "whole")
    assert split.points.shape == (42, 8192, 3)
    lists = [(real / f"ShapeNet55-34/ShapeNet-55/{part}.txt") for part in ("test", "train")]
    lines = [line for file in lists for line in file.read_text().split()]
    assert [f"{id}.npy" for id in split.ids] == lines
