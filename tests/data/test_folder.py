import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes, load_unlabelled
from pointpeft.data.folder import walk_files
from pointpeft.errors import DataError
from pointpeft.measure.loaded_adapter import list_shape_files

SMALL = InputTransform(num_points=16)
Write = Callable[..., Path]


def test_classes_are_sorted_folder_names(mesh_folder: Path) -> None:
    data = load_shapes(mesh_folder, SMALL)
    assert data.class_names == ("ball", "box", "rod")
    for part in (data.train, data.val, data.test):
        for label, item in zip(part.labels, part.ids, strict=True):
            assert item.startswith(f"{data.class_names[label]}/")
    assert (len(data.train), len(data.val), len(data.test)) == (9, 3, 3)
    assert data.problems == ()


def test_split_folders_above_classes(tmp_path: Path, write_classes: Write) -> None:
    for part, count, start in (("train", 3, 0), ("validation", 1, 3), ("test", 2, 4)):
        write_classes(tmp_path / part, {"ball": count, "box": count}, start)
    data = load_shapes(tmp_path, SMALL)
    assert data.class_names == ("ball", "box")
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 4)
    assert all(item.startswith("test/") for item in data.test.ids)
    assert data.notes == ()


def test_split_folders_below_classes(tmp_path: Path, write_classes: Write) -> None:
    for name in ("ball", "box"):
        for part, count, start in (("train", 5, 0), ("test", 2, 5)):
            write_classes(tmp_path / "made", {name: count}, start)
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "made" / name).rename(tmp_path / "set" / name / part)
    data = load_shapes(tmp_path / "set", SMALL)
    assert (len(data.train), len(data.val), len(data.test)) == (8, 2, 4)
    assert all("/test/" in item for item in data.test.ids)


def test_deeper_folders_belong_to_their_class(mesh_folder: Path, write_classes: Write) -> None:
    write_classes(mesh_folder / "box" / "shop" / "large", {"box": 2}, start=7)
    data = load_shapes(mesh_folder, SMALL)
    ids = {*data.train.ids, *data.val.ids, *data.test.ids}
    assert "box/shop/large/box/box_07.off" in ids
    assert data.class_names == ("ball", "box", "rod")


def test_other_files_are_counted_and_hidden_ones_ignored(mesh_folder: Path) -> None:
    (mesh_folder / "box" / "photo.jpg").write_bytes(b"")
    (mesh_folder / "box" / "view.jpg").write_bytes(b"")
    (mesh_folder / "box" / ".hidden.off").write_bytes(b"")
    (mesh_folder / ".git").mkdir()
    (mesh_folder / ".git" / "a.off").write_bytes(b"")
    (mesh_folder / "drafts").mkdir()
    (mesh_folder / "loose.txt").write_text("1 2 3")
    data = load_shapes(mesh_folder, SMALL)
    assert data.problems == ()
    assert "2 .jpg" in data.notes[0]
    assert "meshes/" in data.notes[1]
    assert "drafts" in data.notes[2]


def test_a_class_may_be_called_train(mesh_folder: Path) -> None:
    (mesh_folder / "rod").rename(mesh_folder / "train")
    assert load_shapes(mesh_folder, SMALL).class_names == ("ball", "box", "train")


def test_parts_among_classes_are_refused(mesh_folder: Path) -> None:
    (mesh_folder / "rod").rename(mesh_folder / "train")
    (mesh_folder / "ball").rename(mesh_folder / "test")
    with pytest.raises(DataError, match="test, train"):
        load_shapes(mesh_folder, SMALL)


def test_unlabelled_folder_is_no_class(mesh_folder: Path, write_classes: Write) -> None:
    write_classes(mesh_folder / "unlabelled", {"ball": 2}, start=7)
    data = load_shapes(mesh_folder, SMALL)
    assert data.class_names == ("ball", "box", "rod")
    assert len(data.unlabelled) == 2
    assert data.unlabelled.labels.tolist() == [-1, -1]


@pytest.mark.parametrize("kind", ["missing", "empty", "flat", "split only", "no shapes"])
def test_unusable_folders_show_the_expected_tree(
    tmp_path: Path, mesh_folder: Path, kind: str
) -> None:
    folder = tmp_path / "set"
    if kind != "missing":
        folder.mkdir()
    if kind == "flat":
        (mesh_folder / "box" / "box_00.off").rename(folder / "a.off")
    if kind == "split only":
        (mesh_folder / "box").rename(folder / "train")
    if kind == "no shapes":
        (folder / "box").mkdir()
        (folder / "box" / "a.blend").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)set: .*<folder>/<class>"):
        load_shapes(folder, SMALL)


def test_link_to_a_parent_does_not_loop(mesh_folder: Path) -> None:
    (mesh_folder / "box" / "again").symlink_to(mesh_folder)
    data = load_shapes(mesh_folder, SMALL)
    assert len(data.train) + len(data.val) + len(data.test) == 15


def test_flat_folder_serves_unlabelled(mesh_folder: Path) -> None:
    shapes = load_unlabelled(mesh_folder / "box", SMALL)
    assert shapes.points.shape == (5, 32, 3)
    assert shapes.labels.tolist() == [-1] * 5
    assert shapes.ids[0] == "box_00.off"


def test_unlabelled_leaves_held_out_shapes_alone(tmp_path: Path, write_classes: Write) -> None:
    for part, start in (("train", 0), ("val", 3), ("test", 4)):
        write_classes(tmp_path / part, {"ball": 3 if start == 0 else 1}, start)
    shapes = load_unlabelled(tmp_path, SMALL)
    assert all(item.startswith("train/") for item in shapes.ids)
    assert any(note.startswith("2 ") for note in shapes.notes)


@pytest.mark.parametrize("seed", [0, 1])
def test_pretraining_leaves_out_what_finetuning_cuts(mesh_folder: Path, seed: int) -> None:
    data = load_shapes(mesh_folder, SMALL, seed=seed)
    shapes = load_unlabelled(mesh_folder, SMALL, seed=seed)
    assert sorted(shapes.ids) == sorted(data.train.ids)
    assert set(shapes.digests) == set(data.train.digests)
    assert any(note.startswith("6 ") for note in shapes.notes)


def test_pretraining_leaves_copies_of_held_out_shapes_out_too(mesh_folder: Path) -> None:
    data = load_shapes(mesh_folder, SMALL)
    tested = mesh_folder / data.test.ids[0]
    (mesh_folder / "unlabelled").mkdir()
    (mesh_folder / "unlabelled/copy.off").write_bytes(tested.read_bytes())
    shapes = load_unlabelled(mesh_folder, SMALL)
    assert sorted(shapes.ids) == sorted(data.train.ids)


def test_files_without_a_class_are_pretrained_on_too(mesh_folder: Path) -> None:
    np.save(mesh_folder / "loose.npy", np.random.default_rng(0).normal(size=(99, 3)))
    shapes = load_unlabelled(mesh_folder, SMALL)
    assert "loose.npy" in shapes.ids
    assert len(shapes) == 10


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_spellings_of_a_class_are_one_class(
    tmp_path: Path, write_classes: Write, form: str
) -> None:
    folder = write_classes(tmp_path / "set", {"box": 3})
    (folder / "box").rename(folder / unicodedata.normalize("NFC", "Gefäß"))
    write_classes(tmp_path / "set", {"ball": 3})
    (folder / "ball").rename(folder / unicodedata.normalize("NFD", "Gefäß"))
    data = load_shapes(folder, SMALL, class_names=[unicodedata.normalize(form, "Gefäß")])
    assert data.class_names == (unicodedata.normalize("NFC", "Gefäß"),)
    assert len(data.train) + len(data.val) + len(data.test) == 6
    names = np.array([unicodedata.normalize(form, "Gefäß").encode()])
    points = np.random.default_rng(0).normal(size=(3, 50, 3))
    np.savez(tmp_path / "set.npz", points=points, label=np.zeros(3, int), names=names)
    assert load_shapes(tmp_path / "set.npz", SMALL).class_names == data.class_names


def test_every_verb_walks_a_folder_alike(mesh_folder: Path) -> None:
    for hidden in ("__MACOSX/._a.off", ".cache/a.off", "box/._a.off"):
        (mesh_folder / hidden).parent.mkdir(exist_ok=True)
        (mesh_folder / hidden).write_text("junk")
    (mesh_folder / "box" / "folder.ply").mkdir()
    files = list_shape_files([mesh_folder])
    assert len(files) == 15
    assert {file.relative_to(mesh_folder).as_posix() for file in files} == set(
        load_unlabelled(mesh_folder, SMALL, val_fraction=0.0).ids
    )


def test_unlabelled_reports_problems(mesh_folder: Path) -> None:
    np.save(mesh_folder / "box" / "bad.npy", np.full((9, 3), np.nan))
    shapes = load_unlabelled(mesh_folder, SMALL, val_fraction=0.0)
    assert len(shapes) == 15
    assert [problem.item for problem in shapes.problems] == ["box/bad.npy"]


def test_a_link_to_what_is_written_is_not_read(tmp_path):
    root, output = tmp_path / "shapes", tmp_path / "results.off"
    root.mkdir()
    (root / "a.off").touch()
    output.touch()
    (root / "results.off").symlink_to(output)
    for named in (output, root / "results.off"):
        assert list(walk_files(root, named)) == [root / "a.off"]
    assert list(walk_files(root)) == [root / "a.off", root / "results.off"]
