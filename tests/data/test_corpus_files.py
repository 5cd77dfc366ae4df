"""Lists of files by folder, pattern, table and address, which need not fit into memory."""

import itertools

import fsspec
import numpy as np
import pytest

from pointpeft.data import read_shape
from pointpeft.data.addresses import read_located
from pointpeft.data.corpus import FileList, ListedFile
from pointpeft.data.folder import list_folder
from pointpeft.data.shapes import list_shapes
from pointpeft.errors import ConfigError, DataError
from tests.data.test_gltf import Document

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TREES = {
    "classes": ["chair/a.off", "chair/b.off", "table/c.off"],
    "parts first": ["train/chair/a.off", "test/chair/b.off", "unlabelled/c.off", "val/table/d.off"],
    "parts below": ["chair/train/a.off", "chair/test/b.off", "table/train/c.off"],
    "deep": ["chair/x/y/a.off", "table/b.off", "unlabelled/z/c.off"],
    "flat": ["a.off", "b.off"],
    "some loose": ["a.off", "chair/b.off", "table/c.off"],
    "in two ways": ["train/chair/a.off", "test/chair/b.off", "chair/c.off"],
    "a class called train": ["train/a.off", "boat/b.off"],
}


@pytest.fixture
def storage():
    """A place that is reached by addresses alone."""
    system = fsspec.filesystem("memory")
    system.pipe({"/shapes/b/two.off": b"2", "/shapes/a/one.off": b"1", "/shapes/a/.c.off": b"3"})
    yield system
    system.rm("/", recursive=True)


def write(folder, files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def listed(sources, tmp_path, block=2):
    """All files of a list, and the list."""
    made = FileList.make(sources, block, tmp_path / "list.parquet")
    blocks = [made.read(tmp_path / "list.parquet", n) for n in range(-(-made.count // block))]
    assert all(len(some) == block for some in blocks[:-1])
    return list(itertools.chain(*blocks)), made


@pytest.mark.parametrize("tree", TREES)
def test_folders_state_the_classes_that_data_sets_have(tree, tmp_path):
    root = tmp_path / "set"
    write(root, [*TREES[tree], "readme.md", ".hidden/x.off"])
    files, made = listed([root], tmp_path)
    expected = {item.id: item for item in list_shapes(root).items}
    assert [made.id(one.file) for one in files] == sorted(expected)
    for one in files:
        assert one.class_name == expected[made.id(one.file)].class_name
    assert made.classes == tuple(
        sorted({item.class_name for item in expected.values() if item.class_name})
    )
    if made.classes:
        stated = {item.id: item.split for item in list_folder(root).items}
        for one in files:
            assert one.split == stated.get(made.id(one.file))


def test_files_patterns_and_folders_are_named_as_they_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ["x/b.off", "x/a.off", "y/c.off", "y/c.txt.bak", "z.off"])
    files, made = listed(["x", "y/*", "z.off", "gone.off", "x"], tmp_path)
    assert [one.file for one in files] == ["x/a.off", "x/b.off", "y/c.off", "z.off", "gone.off"]
    assert made.root is None
    assert {one.class_name for one in files} == {None}


def test_a_table_states_classes_and_splits(tmp_path):
    rows = {
        "file": ["s3://shapes/1.glb", "two.off"], "class": ["a", None], "split": ["Training", None],
        "size": [1, 2],
    }  # fmt: skip
    parquet.write_table(arrow.table(rows), tmp_path / "files.parquet")
    files, made = listed([tmp_path / "files.parquet"], tmp_path)
    assert files == [ListedFile("s3://shapes/1.glb", "a", "train"), ListedFile("two.off")]
    assert made.classes == ("a",)


def test_the_digest_tells_lists_apart(tmp_path):
    write(tmp_path / "set", ["a.off", "b.off"])
    first = FileList.make([tmp_path / "set"], 2)
    assert FileList.make([tmp_path / "set"], 5) == first
    write(tmp_path / "set", ["c.off"])
    assert FileList.make([tmp_path / "set"], 2).digest != first.digest
    assert FileList.from_dict(first.to_dict()) == first


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ({"path": ["a.off"]}, "file"),
        ({"file": [None]}, "None"),
        ({"file": ["a.off"], "split": ["most"]}, "most"),
    ],
)
def test_another_table_is_refused(tmp_path, rows, named):
    parquet.write_table(arrow.table(rows), tmp_path / "files.parquet")
    with pytest.raises(DataError, match=named) as refused:
        FileList.make([tmp_path / "files.parquet"], 2, tmp_path / "list.parquet")
    assert "files.parquet" in str(refused.value)
    assert not (tmp_path / "list.parquet").exists()


def test_what_holds_no_shape_is_refused(tmp_path):
    (tmp_path / "no.parquet").write_text("no table")
    (tmp_path / "empty").mkdir()
    for source in ("no.parquet", "gone.parquet", "empty", "empty/*.off"):
        with pytest.raises(DataError, match=source.split("/")[0]):
            FileList.make([tmp_path / source], 2)
    with pytest.raises(ConfigError, match="nowhere"):
        FileList.make(["nowhere://shapes"], 2)


def test_addresses_are_folders_patterns_and_files(storage, tmp_path):
    files, made = listed(["memory://shapes"], tmp_path)
    assert [one.file for one in files] == [f"memory:///shapes/{name}.off" for name in
                                           ("a/one", "b/two")]  # fmt: skip
    assert [made.id(one.file) for one in files] == ["a/one.off", "b/two.off"]
    assert made.classes == ("a", "b")
    files, _ = listed(["memory://shapes/*/t*.off", "memory://shapes/gone.off"], tmp_path)
    assert [one.file for one in files] == [f"memory:///shapes/{name}.off" for name in
                                           ("b/two", "gone")]  # fmt: skip
    with pytest.raises(DataError, match="memory://nothing"):
        FileList.make(["memory://nothing/*"], 2)


def test_a_shape_at_an_address_is_that_of_its_file(storage, tmp_path):
    document = Document()
    path = document.write(tmp_path / "cube.gltf", "parts/cube.bin")
    (tmp_path / "parts").mkdir(exist_ok=True)
    (tmp_path / "parts/cube.bin").write_bytes(document.buffer)
    system = fsspec.filesystem("memory")
    system.put(str(tmp_path), "/meshes", recursive=True)
    found, expected = read_located("memory://meshes/cube.gltf"), read_shape(path)
    np.testing.assert_array_equal(found.points, expected.points)
    assert found.source == "memory://meshes/cube.gltf"
    assert read_located(str(path)).source == str(path)
    system.rm("/meshes/parts/cube.bin")
    for name in ("memory://meshes/cube.gltf", "memory://meshes/gone.off"):
        with pytest.raises(DataError, match=name):
            read_located(name)
