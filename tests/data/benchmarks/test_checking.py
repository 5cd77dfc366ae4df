from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pointpeft.data.benchmarks import DATASETS, check_benchmark
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the tiny data sets count as complete."""
    counts = {
        "modelnet40": {"train": 9, "test": 6},
        "modelnet40_h5": {"train": 6, "test": 2},
        "scanobjectnn_obj_bg": {"train": 4, "test": 2},
        "scanobjectnn_obj_only": {"train": 5, "test": 3},
        "scanobjectnn_pb_t50_rs": {"train": 6, "test": 4},
        "shapenet55": {"train": 3, "test": 1},
        "shapenetpart": {"train": 4, "val": 1, "test": 2},
    }
    for name, dataset in list(DATASETS.items()):
        monkeypatch.setitem(DATASETS, name, replace(dataset, counts=counts[name]))


@pytest.mark.usefixtures("published")
def test_complete_data_sets_have_no_problems(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    checks = check_benchmark(root, progress=lambda done, total: calls.append((done, total)))
    problems = {check.name: check.problems for check in checks}
    own = {"modelnet40", "shapenetpart"}  # whose tiny files name classes of their own
    assert all(
        not found for name, found in problems.items() if name in DATASETS and name not in own
    )
    assert all("class names differ" in found for name in own for found in problems[name])
    assert (9, 9) in calls
    by_name = {check.name: check for check in checks}
    counted = {split.name: split.class_counts for split in by_name["modelnet40"].splits}
    assert counted == {"train": (3, 3, 3), "test": (2, 2, 2)}


def test_numbers_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    layouts.write_scanobjectnn(tmp_path)
    (check,) = check_benchmark(tmp_path, "pb_t50_rs")
    assert check.folder == tmp_path / "ScanObjectNN"
    assert check.problems == (
        "train: 6 shapes, released 11,416",
        "test: 4 shapes, released 2,882",
    )
    assert [split.released for split in check.splits] == [11416, 2882]


def test_every_bad_shape_is_listed(tmp_path: Path) -> None:
    folder = layouts.write_shapenet(tmp_path)
    clouds = folder / "shapenet_pc"
    np.save(clouds / "03001627-a.npy", np.full((40, 3), np.nan))
    np.save(clouds / "02691156-a.npy", np.zeros((39, 3)))
    (clouds / "02691156-b.npy").write_bytes(b"")
    (check,) = check_benchmark(folder)
    listed = "\n".join(check.problems)
    assert "02691156-a: 39 points" in listed
    assert "03001627-a: 40 of 40" in listed
    assert "02691156-a: zero extent" in listed
    assert "02691156-b.npy: " in listed


def test_one_broken_file_does_not_hide_the_rest(tmp_path: Path) -> None:
    folder = layouts.write_scanobjectnn(tmp_path)
    (folder / "main_split/test_objectdataset.h5").write_bytes(b"cut")
    (folder / "main_split_nobg/test_objectdataset.h5").unlink()
    checks = {check.name: check for check in check_benchmark(folder)}
    assert [split.name for split in checks["scanobjectnn_obj_bg"].splits] == ["train"]
    assert "cannot be read as HDF5" in checks["scanobjectnn_obj_bg"].problems[-1]
    assert "<-- missing" in checks["scanobjectnn_obj_only"].problems[-1]
    assert len(checks["scanobjectnn_pb_t50_rs"].splits) == 2


def test_episodes_are_counted(tmp_path: Path) -> None:
    for fold in range(10):
        layouts.write_episode(tmp_path, fold=fold, queries=20)
    (check,) = check_benchmark(tmp_path)
    assert check.name == "3way_4shot"
    assert check.problems == ()
    layouts.write_episode(tmp_path, fold=2, queries=19)
    layouts.write_episode(tmp_path, fold=3).unlink()
    (check,) = check_benchmark(tmp_path)
    assert check.problems == (
        "folds missing: 3",
        "fold 2: 19, 19, 19 test shapes by label, released 20",
    )


def test_folder_without_published_data_names_those_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)ScanObjectNN/.*Fewshot"):
        check_benchmark(tmp_path)
    with pytest.raises(DataError, match="gone"):
        check_benchmark(tmp_path / "gone")
    with pytest.raises(DataError, match=r"(?s)ModelNetFewshot.*Point-BERT"):
        check_benchmark(tmp_path / "ModelNetFewshot")


def test_real_layouts_are_readable(real: Path) -> None:
    checks = {check.name: check for check in check_benchmark(real)}
    assert set(checks) == {*DATASETS, "5way_10shot"}
    for name, check in checks.items():
        if name in DATASETS:
            assert all(", released " in problem for problem in check.problems), check.problems
    with h5py.File(real / "ScanObjectNN/main_split/test_objectdataset.h5") as file:
        labels = np.bincount(file["label"][:])
    assert checks["scanobjectnn_obj_bg"].splits[1].class_counts == tuple(labels)
