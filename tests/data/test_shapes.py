import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, ShapeSplit, load_shapes, load_unlabelled, read_shape
from pointpeft.errors import DataError

SMALL = InputTransform(num_points=32)
Write = Callable[..., Path]


@pytest.fixture
def damaged_folder(mesh_folder: Path) -> Path:
    """The mesh folder with one item of each kind that cannot be used."""
    (mesh_folder / "box" / "cut.glb").write_bytes(b"glTF\x02\x00")
    (mesh_folder / "box" / "empty.obj").write_text("# nothing\n")
    np.save(mesh_folder / "ball" / "nan.npy", np.full((40, 3), np.nan))
    np.savetxt(mesh_folder / "ball" / "place.xyz", np.ones((40, 3)))
    return mesh_folder


BAD = ["ball/nan.npy", "ball/place.xyz", "box/cut.glb", "box/empty.obj"]


def test_files_give_what_prepare_gives(mesh_folder: Path) -> None:
    data = load_shapes(mesh_folder, SMALL)
    for item, points in zip(data.train.ids, data.train.points, strict=True):
        assert np.array_equal(points, SMALL.prepare(read_shape(mesh_folder / item)))
    assert data.train.points.shape == (9, 64, 3)
    assert data.train.points.dtype == np.float32
    assert data.train.labels.dtype == np.int64
    assert data.transform == SMALL


def test_bad_items_are_skipped_by_name(damaged_folder: Path) -> None:
    data = load_shapes(damaged_folder, SMALL)
    assert [problem.item for problem in data.problems] == BAD
    assert all(str(damaged_folder) not in problem.reason for problem in data.problems)
    assert len(data.train) + len(data.val) + len(data.test) == 15


def test_a_pipe_is_no_shape(mesh_folder: Path) -> None:
    os.mkfifo(mesh_folder / "box/endless.xyz")
    (problem,) = load_shapes(mesh_folder, SMALL).problems
    assert problem.item == "box/endless.xyz"


def test_bad_items_are_refused_on_request(damaged_folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_shapes(damaged_folder, SMALL, on_error="refuse")
    assert all(item in str(caught.value) for item in BAD)


def test_unknown_way_with_errors_is_refused(mesh_folder: Path) -> None:
    with pytest.raises(DataError, match="on_error='ignore'"):
        load_shapes(mesh_folder, SMALL, on_error="ignore")  # type: ignore[arg-type]


def test_only_bad_items_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.off").write_text("OFF\n")
    with pytest.raises(DataError, match=r"a/bad\.off"):
        load_shapes(tmp_path, SMALL)
    with pytest.raises(DataError, match=r"a/bad\.off"):
        load_unlabelled(tmp_path, SMALL)


def test_class_with_only_bad_items_is_an_error(mesh_folder: Path) -> None:
    (mesh_folder / "cone").mkdir()
    (mesh_folder / "cone" / "bad.off").write_text("OFF\n")
    with pytest.raises(DataError, match="cone"):
        load_shapes(mesh_folder, SMALL)


def test_single_shape_of_a_class_is_for_training(tmp_path: Path, write_classes: Write) -> None:
    data = load_shapes(write_classes(tmp_path, {"ball": 1, "box": 6}), SMALL)
    assert "ball/ball_00.off" in data.train.ids
    assert any(note.endswith(" ball") for note in data.notes)


def test_mesh_without_usable_faces_counts_as_cloud(mesh_folder: Path) -> None:
    rows = "".join(f"v {i} 0 {i * i}\n" for i in range(20))
    (mesh_folder / "box" / "flat.obj").write_text(rows + "f 1 2 2\n")
    data = load_shapes(mesh_folder, SMALL)
    assert data.problems == ()
    assert any(note.startswith("box/flat.obj: ") for note in data.notes)


def test_class_names_fix_the_label_order(mesh_folder: Path) -> None:
    names = ("rod", "cone", "box", "ball")
    data = load_shapes(mesh_folder, SMALL, class_names=names)
    assert data.class_names == names
    for label, item in zip(data.test.labels, data.test.ids, strict=True):
        assert item.startswith(names[label])


def test_classes_unknown_to_the_model_are_refused(mesh_folder: Path) -> None:
    with pytest.raises(DataError, match=r"ball, rod .*box, cone"):
        load_shapes(mesh_folder, SMALL, class_names=("box", "cone"))


def test_test_part_alone_can_be_measured(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "test", {"ball": 2, "box": 2})
    with pytest.raises(DataError, match="ball, box"):
        load_shapes(tmp_path, SMALL)
    data = load_shapes(tmp_path, SMALL, class_names=("ball", "box"))
    assert (len(data.train), len(data.val), len(data.test)) == (0, 0, 4)
    assert data.train.points.shape == (0, 64, 3)
    assert data.statistics is None


def test_seed_decides_samples_and_parts(mesh_folder: Path) -> None:
    first, again, other = (load_shapes(mesh_folder, SMALL, seed=seed) for seed in (3, 3, 4))
    assert first.train.ids == again.train.ids
    assert np.array_equal(first.train.points, again.train.points)
    assert first.train.ids != other.train.ids


def test_progress_counts_every_item(damaged_folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    load_shapes(damaged_folder, SMALL, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 19) for done in range(1, 20)]


def test_copies_across_parts_are_not_measured(mesh_folder: Path) -> None:
    boxes = mesh_folder / "box"
    for part in ("train", "test"):
        (boxes / part).mkdir()
    (boxes / "train/copy.off").write_bytes((boxes / "box_00.off").read_bytes())
    for name in ("box_00.off", "box_01.off"):
        (boxes / name).rename(boxes / "test" / name)
    data = load_shapes(mesh_folder, SMALL)
    assert data.test.ids == ("box/test/box_01.off",)
    assert any("box/test/box_00.off = box/train/copy.off" in note for note in data.notes)


@pytest.mark.parametrize("indices", [[2, 0], np.array([False, False, True]), []])
def test_subset_takes_rows(indices: list[int] | np.ndarray) -> None:
    split = ShapeSplit(np.arange(9.0).reshape(3, 1, 3), np.array([5, 6, 7]), ("a", "b", "c"))
    chosen = split.subset(indices)
    places = np.flatnonzero(indices) if isinstance(indices, np.ndarray) else indices
    assert chosen.ids == tuple("abc"[place] for place in places)
    assert chosen.labels.tolist() == [5 + place for place in places]
    assert chosen.points.shape == (len(places), 1, 3)


def test_source_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"set\.h5"):
        load_shapes(tmp_path / "set.h5", SMALL)
    with pytest.raises(DataError, match="homeobject: "):
        load_shapes("homeobject", SMALL)


def test_import_does_not_load_the_mesh_library() -> None:
    code = "import sys, pointpeft.data; sys.exit('trimesh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_mesh_folder_loads_whole(shared_dir: Path) -> None:
    data = load_shapes(shared_dir / "meshes", InputTransform(256))
    assert data.problems == ()
    assert len(data.class_names) == 6
    assert len(data.train) + len(data.val) + len(data.test) == 77
    for part in (data.val, data.test):
        assert set(part.labels) == set(range(6))


def test_real_scans_load_in_three_formats(shared_dir: Path) -> None:
    shapes = load_unlabelled(shared_dir / "scans", InputTransform(256))
    assert shapes.problems == ()
    assert len(shapes) == 9
    assert np.allclose(np.linalg.norm(shapes.points, axis=2).max(axis=1), 1, atol=1e-5)
