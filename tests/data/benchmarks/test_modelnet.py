import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from pointpeft.data.benchmarks import read_benchmark
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts


def test_lists_give_the_order_and_the_classes(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    split = read_benchmark("modelnet40", tmp_path, "train")
    assert split.class_names == layouts.CLASSES
    assert split.ids[:4] == ("bathtub_0000", "airplane_0000", "night_stand_0000", "bathtub_0001")
    assert split.labels.tolist() == [0, 1, 2] * 3
    assert split.labels.dtype == np.int64
    assert split.points.shape == (9, 20, 3)
    assert split.points.dtype == np.float32
    text = np.loadtxt(folder / "night_stand/night_stand_0000.txt", delimiter=",")
    assert np.array_equal(split.points[2], text[:, :3].astype(np.float32))
    assert split.parts is None
    assert len(read_benchmark("modelnet40", tmp_path, "test")) == 6


@pytest.mark.parametrize("below", ["", "ModelNet", layouts.MODELNET])
def test_own_folder_and_folder_of_all_data_serve(tmp_path: Path, below: str) -> None:
    layouts.write_modelnet(tmp_path)
    assert len(read_benchmark("modelnet40", tmp_path / below, "test")) == 6


def test_cache_wins_over_text_clouds(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    clouds = layouts.write_cache(folder, "train", [0, 1, 2] * 3)
    split = read_benchmark("modelnet40", tmp_path, "train")
    assert np.array_equal(split.points, clouds[:, :, :3])
    assert split.ids[1] == "airplane_0000"  # the list beside it names the same shapes
    assert read_benchmark("modelnet40", tmp_path, "test").points.shape[1] == 20


def test_cache_alone_is_enough(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    layouts.write_cache(folder, "train", [2, 0])
    (folder / "modelnet40_train.txt").unlink()
    split = read_benchmark("modelnet40", tmp_path, "train")
    assert split.labels.tolist() == [2, 0]
    assert split.ids == ("train:0", "train:1")


def test_ids_of_another_list_are_not_taken(tmp_path: Path) -> None:
    layouts.write_cache(layouts.write_modelnet(tmp_path), "train", [2, 1, 0] * 3)
    assert read_benchmark("modelnet40", tmp_path, "train").ids[0] == "train:0"


def test_missing_files_show_the_expected_tree(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    (folder / "modelnet40_test.txt").unlink()
    with pytest.raises(DataError) as caught:
        read_benchmark("modelnet40", tmp_path, "test")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{folder}/modelnet40_test.txt: no such file; ModelNet40 is expected as"
    assert lines[1] == f"  {layouts.MODELNET}/"
    marked = [line.split()[0] for line in lines if line.endswith("<-- missing")]
    assert marked == ["modelnet40_test.txt"]
    assert lines[-1].endswith("https://modelnet.cs.princeton.edu")


def test_absent_data_set_shows_the_expected_tree(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_benchmark("modelnet40", tmp_path, "train")
    assert str(caught.value).startswith(f"{tmp_path}: ModelNet40 is expected as\n")
    assert str(caught.value).count("<-- missing") == 4  # the caches are another way


def test_listed_shapes_that_are_missing_are_named_and_counted(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    for file in (folder / "airplane").iterdir():
        file.unlink()
    for file in (folder / "bathtub").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"6 of the 9 .* 1 more") as caught:
        read_benchmark("modelnet40", tmp_path, "train")
    assert "modelnet40_train.txt" in str(caught.value)
    assert "airplane_0000.txt" in str(caught.value)


def test_unknown_class_and_split_are_refused(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    with pytest.raises(DataError, match=r"split='val'.*train, test"):
        read_benchmark("modelnet40", tmp_path, "val")
    layouts.write_lines(folder / "modelnet40_test.txt", ["spoon_0001"])
    with pytest.raises(DataError, match=r"modelnet40_test\.txt: 'spoon_0001'"):
        read_benchmark("modelnet40", tmp_path, "test")
    with pytest.raises(DataError, match="'modelnet40'"):
        read_benchmark("modelnet4", tmp_path, "test")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "rows"),
        (b"0.1,0.2\n", "3 columns"),
        (b"1,2,3,4,5,6\n1,2,3\n", "rows"),
        (b"\xff\xfe\x00", "rows"),
        (b"1,2,3,4,5,6\n", "1 points.* 20"),
    ],
)
def test_damaged_cloud_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    folder = layouts.write_modelnet(tmp_path)
    (folder / "airplane/airplane_0000.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"airplane_0000\.txt: .*{reason}"):
        read_benchmark("modelnet40", tmp_path, "train")


class Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_cache_with_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    folder = layouts.write_modelnet(tmp_path)
    content = pickle.dumps([[Code(tmp_path / "ran")], [0]])
    (folder / "modelnet40_train_8192pts_fps.dat").write_bytes(content)
    with pytest.raises(DataError, match=r"train_8192pts_fps\.dat: .*mkdir"):
        read_benchmark("modelnet40", tmp_path, "train")
    assert not (tmp_path / "ran").exists()


CLOUD = np.zeros((9, 6), np.float32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"train": []}, "pickle"),
        ([[CLOUD], []], "pickle"),
        ([[CLOUD[:, :2]], [[0]]], r"a cloud \(9, 2\)"),
        ([[CLOUD, CLOUD[1:]], [[0], [0]]], "cloud 1"),
        ([[CLOUD], [["chair"]]], "integers"),
        ([[CLOUD], [[1.0]]], "integers"),
        ([[CLOUD, CLOUD], [[0], [3]]], "label 3 of item 1.* 0 to 2"),
    ],
)
def test_cache_of_another_form_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    folder = layouts.write_modelnet(tmp_path)
    (folder / "modelnet40_test_8192pts_fps.dat").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=rf"test_8192pts_fps\.dat: .*{reason}"):
        read_benchmark("modelnet40", tmp_path, "test")


def test_numbered_files_are_joined_in_order(tmp_path: Path) -> None:
    folder = layouts.write_modelnet_h5(tmp_path)
    split = read_benchmark("modelnet40_h5", folder, "train")
    assert split.labels.tolist() == [5, 7, 39, 6, 7, 39]
    assert split.class_names[39] == "xbox"
    assert split.ids[3] == "ply_data_train1:0"
    with h5py.File(folder / "ply_data_train1.h5") as file:
        assert np.array_equal(split.points[3:], file["data"][:])


def test_list_of_files_gives_their_order(tmp_path: Path) -> None:
    folder = layouts.write_modelnet_h5(tmp_path)
    names = [f"data/modelnet40_ply_hdf5_2048/ply_data_train{number}.h5" for number in (1, 0)]
    layouts.write_lines(folder / "train_files.txt", names)
    assert read_benchmark("modelnet40_h5", tmp_path, "train").labels[0] == 6
    layouts.write_lines(folder / "train_files.txt", [*names, "data/ply_data_train2.h5"])
    with pytest.raises(DataError, match=r"train_files\.txt: 1\D+3\b"):
        read_benchmark("modelnet40_h5", tmp_path, "train")


def test_gap_in_the_numbers_is_a_missing_file(tmp_path: Path) -> None:
    folder = layouts.write_modelnet_h5(tmp_path)
    (folder / "ply_data_train1.h5").rename(folder / "ply_data_train2.h5")
    with pytest.raises(DataError, match=r"ply_data_train1\.h5"):
        read_benchmark("modelnet40_h5", tmp_path, "train")


def damage(path: Path, kind: str) -> None:
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
        return
    with h5py.File(path, "a") as file:
        data, label = file["data"][:], file["label"][:]
        for key in [] if kind == "no key" else ["data", "label"]:
            del file[key]
        if kind == "no key":
            del file["label"]
        elif kind == "shape":
            file["data"], file["label"] = data[:, :, 0], label
        elif kind == "transposed":
            file["data"], file["label"] = data.transpose(0, 2, 1), label
        elif kind == "count":
            file["data"], file["label"] = data, label[1:]
        elif kind == "type":
            file["data"], file["label"] = data, label.astype(np.float32)
        else:
            file["data"], file["label"] = data, label + 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", "HDF5"),
        ("no key", "'label'"),
        ("shape", r"data \(3, 25\)"),
        ("transposed", "transposed"),
        ("count", r"label \(2, 1\)"),
        ("type", "float32"),
        ("range", "label 40 of item 2.* 0 to 39"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, kind: str, reason: str) -> None:
    folder = layouts.write_modelnet_h5(tmp_path)
    damage(folder / "ply_data_train0.h5", kind)
    with pytest.raises(DataError, match=rf"ply_data_train0\.h5: .*{reason}"):
        read_benchmark("modelnet40_h5", tmp_path, "train")


def test_real_layouts(real: Path) -> None:
    split = read_benchmark("modelnet40", real, "train")
    assert split.points.shape == (38, 8192, 3)
    assert split.ids[:3] == ("airplane_0001", "airplane_0002", "bed_0001")
    assert [split.class_names[label] for label in split.labels[:3]] == ["airplane"] * 2 + ["bed"]
    assert read_benchmark("modelnet40_h5", real, "train").points.shape == (152, 2048, 3)
    assert read_benchmark("modelnet40_h5", real, "test").points.shape == (76, 2048, 3)
