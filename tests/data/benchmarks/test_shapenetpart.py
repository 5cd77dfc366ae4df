import json
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data.benchmarks import DATASETS, PART_IDS, read_benchmark
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts


def test_shapes_come_by_category_and_file_name(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    split = read_benchmark("shapenetpart", tmp_path, "train")
    assert split.ids == (
        "02691156/plane1",
        "02691156/plane3",
        "03001627/chair1",
        "03001627/chair2",
    )
    assert split.labels.tolist() == [0, 0, 1, 1]
    assert split.class_names == ("Airplane", "Chair")
    assert [points.shape for points in split.points] == [(21, 3), (23, 3), (21, 3), (22, 3)]
    table = np.loadtxt(folder / "03001627/chair2.txt")
    assert np.array_equal(split.points[3], table[:, :3].astype(np.float32))
    assert split.parts is not None
    assert split.parts[3].tolist() == table[:, 6].tolist()
    assert split.parts[3].dtype == np.int64


def test_trainval_merges_the_lists(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    split = read_benchmark("shapenetpart", folder, "trainval")
    assert [id.partition("/")[2] for id in split.ids] == [
        "plane1",
        "plane2",
        "plane3",
        "chair1",
        "chair2",
    ]


def test_part_of_another_category_is_refused(tmp_path: Path) -> None:
    path = layouts.write_shapenetpart(tmp_path) / "03001627/chair1.txt"
    lines = path.read_text().splitlines()
    lines[4] = lines[4].rsplit(" ", 1)[0] + " 3.0"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"chair1\.txt: part 3 of point 4; .*12 to 15"):
        read_benchmark("shapenetpart", tmp_path, "train")
    path.write_text("\n".join(lines).replace(" 3.0", " 12.5"))
    with pytest.raises(DataError, match=r"chair1\.txt: .*12\.5"):
        read_benchmark("shapenetpart", tmp_path, "train")


def test_wrong_lists_are_named(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    path = folder / "train_test_split/shuffled_val_file_list.json"
    for content, reason in (
        ("[", "JSON"),
        ('{"a": 1}', "list"),
        ('["plane2"]', "shape_data"),
        ('["shape_data/02691156/gone"]', "1 of the 1 files"),
        ("[]", "no shape"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=rf"shuffled_val_file_list\.json: .*{reason}"):
            read_benchmark("shapenetpart", folder, "val")


def test_wrong_categories_are_named(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    path = folder / "synsetoffset2category.txt"
    layouts.write_lines(path, ["Airplane\t02691156"])
    with pytest.raises(DataError, match="03001627"):
        read_benchmark("shapenetpart", folder, "train")
    layouts.write_lines(path, ["Airplane\t03001627"])
    with pytest.raises(DataError, match=r"synsetoffset2category\.txt: 'Airplane 03001627'"):
        read_benchmark("shapenetpart", folder, "train")


def test_cloud_without_parts_is_refused(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    np.savetxt(folder / "02691156/plane2.txt", np.zeros((9, 6)))
    with pytest.raises(DataError, match=r"plane2\.txt: .*\(9, 6\).* 7"):
        read_benchmark("shapenetpart", folder, "val")


def test_part_ids_of_the_published_table() -> None:
    assert PART_IDS["Airplane"] == range(4)
    assert PART_IDS["Motorbike"] == range(30, 36)
    assert PART_IDS["Table"] == range(47, 50)
    assert [part for ids in PART_IDS.values() for part in ids] == list(range(50))
    assert DATASETS["shapenetpart"].part_names[12] == "Chair/12"


def test_real_layout(real: Path) -> None:
    counts = {"train": 22, "val": 6, "trainval": 28, "test": 36}
    splits = {name: read_benchmark("shapenetpart", real, name) for name in counts}
    assert {name: len(split) for name, split in splits.items()} == counts
    for split in splits.values():
        assert len(split.class_names) == 16
        for label, parts in zip(split.labels, split.parts, strict=True):
            assert set(parts.tolist()) <= set(PART_IDS[split.class_names[label]])
    lists = real / layouts.SHAPENETPART / "train_test_split"
    names = json.loads((lists / "shuffled_test_file_list.json").read_text())
    assert sorted(splits["test"].ids) == sorted(name.partition("/")[2] for name in names)
