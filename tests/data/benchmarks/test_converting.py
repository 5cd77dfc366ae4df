import mmap
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes
from pointpeft.data.archive import list_archive
from pointpeft.data.benchmarks import convert_benchmark, read_benchmark, write_archive
from pointpeft.data.benchmarks.benchmark import Cloud
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts

SMALL = InputTransform(num_points=16)


@pytest.mark.parametrize("variant", ["modelnet40", "modelnet40_h5", "obj_bg", "shapenet55"])
def test_archive_holds_what_is_stored(root: Path, variant: str) -> None:
    target = root / "set.npz"
    calls: list[tuple[int, int]] = []
    count = convert_benchmark(root, target, variant, lambda *call: calls.append(call))
    splits = {name: read_benchmark(variant, root, name) for name in ("train", "test")}
    assert count == sum(map(len, splits.values()))
    assert calls == [(done, count) for done in range(1, count + 1)]
    with np.load(target) as arrays:
        assert set(arrays) == {"points", "label", "names", "split", "id", "dataset"}
        assert tuple(arrays["names"]) == splits["train"].class_names
        for name, split in splits.items():
            chosen = arrays["split"] == name
            assert np.array_equal(arrays["points"][chosen], split.points)
            assert np.array_equal(arrays["label"][chosen], split.labels)
            assert tuple(arrays["id"][chosen]) == split.ids


def test_archive_loads_like_the_folder(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path / "data", train=5)
    convert_benchmark(folder, tmp_path / "set.npz")
    first, second = (load_shapes(each, SMALL) for each in (folder, tmp_path / "set.npz"))
    assert first.class_names == second.class_names
    for part in ("train", "val", "test"):
        assert getattr(first, part).ids == getattr(second, part).ids
        assert np.array_equal(getattr(first, part).labels, getattr(second, part).labels)


def test_parts_are_written_and_smaller_clouds_filled_up(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    convert_benchmark(folder, tmp_path / "set.npz")
    split = read_benchmark("shapenetpart", folder, "test")
    with np.load(tmp_path / "set.npz") as arrays:
        assert arrays["points"].shape == (7, 24, 3)
        assert arrays["seg"].shape == (7, 24)
        assert arrays["parts"][12] == "Chair/12"
        assert sorted(set(arrays["split"])) == ["test", "train", "val"]
        rows = np.flatnonzero(arrays["split"] == "test")
        for row, points, parts in zip(rows, split.points, split.parts, strict=True):
            order = np.arange(24) % len(points)
            assert np.array_equal(arrays["points"][row], points[order])
            assert np.array_equal(arrays["seg"][row], parts[order])


def test_part_labels_load_like_those_of_the_folder(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    convert_benchmark(folder, tmp_path / "set.npz")
    first, second = (
        load_shapes(each, SMALL, segmented=True) for each in (folder, tmp_path / "set.npz")
    )
    assert first.part_names == second.part_names
    for part in ("train", "val", "test"):
        counts = [
            np.bincount(getattr(data, part).seg.ravel(), minlength=50) for data in (first, second)
        ]
        assert (counts[0] > 0).tolist() == (counts[1] > 0).tolist()


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path / "data", train=5)
    (tmp_path / "set.npz").write_text("mine")
    with pytest.raises(DataError, match=r"set\.npz"):
        convert_benchmark(folder, tmp_path / "set.npz")
    assert (tmp_path / "set.npz").read_text() == "mine"


def test_archive_stays_in_its_file(tmp_path: Path) -> None:
    cloud = Cloud(np.ones((2000, 3), np.float32))
    labels, splits, ids = np.zeros(60, int), ["train"] * 60, list(map(str, range(60)))
    write_archive(
        tmp_path / "set.npz", [cloud] * 60, 2000, labels=labels, class_names=["a"], splits=splits,
        ids=ids,
    )  # fmt: skip
    points = list_archive(tmp_path / "set.npz").items[0].origin
    while isinstance(points, np.ndarray):
        points = points.base
    assert isinstance(points, mmap.mmap)


def test_unusable_sources_and_targets_are_refused(root: Path, mesh_folder: Path) -> None:
    with pytest.raises(DataError, match=r"set\.npy.*\.npz"):
        convert_benchmark(root, root / "set.npy", "shapenet55")
    with pytest.raises(DataError, match="variant"):
        convert_benchmark(root, root / "set.npz")
    with pytest.raises(DataError, match="known: modelnet40"):
        convert_benchmark(mesh_folder / "box", root / "set.npz")
    with pytest.raises(DataError, match="few_shot"):
        convert_benchmark(root / "ModelNetFewshot", root / "set.npz")
    assert not (root / "set.npz").exists()


def test_damaged_shape_leaves_no_archive(tmp_path: Path) -> None:
    folder = layouts.write_shapenet(tmp_path)
    np.save(folder / "shapenet_pc/02691156-b.npy", np.zeros((39, 3)))
    with pytest.raises(DataError, match=r"02691156-b\.npy: 39 points"):
        convert_benchmark(folder, tmp_path / "set.npz")
    assert not list(tmp_path.glob("set.npz*"))


def test_number_of_shapes_must_be_as_promised(tmp_path: Path) -> None:
    cloud = Cloud(np.ones((5, 3), np.float32))
    about = {"class_names": ["a"], "splits": ["train"] * 2, "ids": ["x", "y"]}
    with pytest.raises(DataError, match=r"set\.npz: 1\D+2\b"):
        write_archive(tmp_path / "set.npz", [cloud], 5, labels=np.zeros(2, int), **about)
    with pytest.raises(DataError, match=r"x: 5\D+4\b"):
        write_archive(tmp_path / "set.npz", [cloud], 4, labels=np.zeros(2, int), **about)


def test_real_layouts(real: Path, tmp_path: Path) -> None:
    assert convert_benchmark(real, tmp_path / "set.npz", "shapenetpart") == 64
    data = load_shapes(tmp_path / "set.npz", InputTransform(64), num_stored=64)
    assert data.class_names == ("Airplane", "Chair", "Mug", "Table")
    assert (len(data.train), len(data.val), len(data.test)) == (22, 6, 36)
