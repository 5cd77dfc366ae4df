"""Part labels: read in every form, kept with their points, refused where they make no sense."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pointpeft.data import InputTransform, PartTable, RawShape, load_shapes, read_shape
from pointpeft.data.parts import find_parts, read_part_names
from pointpeft.data.ply import write_labelled_ply
from pointpeft.errors import DataError

SMALL = InputTransform(num_points=32)
RAW = InputTransform(num_points=32, normalize="none")


@pytest.fixture
def seg(cloud: np.ndarray) -> np.ndarray:
    """Part labels `(300,)` of the cloud: 0 to 3 by height."""
    return np.digitize(cloud[:, 1], np.quantile(cloud[:, 1], [0.25, 0.5, 0.75]))


def text(path: Path, *columns: np.ndarray, header: str = "", delimiter: str = " ") -> None:
    np.savetxt(path, np.column_stack(columns), header=header, delimiter=delimiter, comments="")


WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {
    "plain.txt": lambda path, p, s: text(path, p, s),
    "normals.xyz": lambda path, p, s: text(path, p, np.zeros_like(p), s),
    "commas.csv": lambda path, p, s: text(path, p, s, delimiter=","),
    "header.csv": lambda path, p, s: text(
        path, s, p, p[:, 0], header="label,x,y,z,w", delimiter=","),
    "one.npz": lambda path, p, s: np.savez(path, points=p, seg=s.astype(np.uint8)),
    "cloud.ply": write_labelled_ply,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_part_labels_are_read_from_a_file(
    tmp_path: Path, cloud: np.ndarray, seg: np.ndarray, name: str
) -> None:
    WRITERS[name](tmp_path / name, cloud, seg)
    shape = read_shape(tmp_path / name, segmented=True)
    assert shape.seg is not None
    assert shape.seg.dtype == np.int64
    assert shape.seg.tolist() == seg.tolist()
    assert np.allclose(shape.points, cloud)
    assert read_shape(tmp_path / name).seg is None


@pytest.mark.parametrize("name", ["label", "part", "segmentation"])
@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_part_labels_are_read_from_vertices_of_a_mesh(
    tmp_path: Path, name: str, encoding: str
) -> None:
    mesh = trimesh.creation.box()
    mesh.vertex_attributes[name] = np.arange(8, dtype=np.int32)
    mesh.export(tmp_path / "box.ply", encoding=encoding)
    shape = read_shape(tmp_path / "box.ply", segmented=True)
    assert shape.faces is not None
    assert shape.seg is not None
    assert shape.seg.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bare.txt", "0 0 0\n1 1 1\n", "x, y, z"),
        ("normal.txt", "0 0 0 0.5\n1 1 1 1\n", "0.5"),
        ("below.txt", "0 0 0 1\n1 1 1 -1\n", "-1"),
        ("times.txt", "0 0 0 1\n1 1 1 123456\n", "123456"),
        ("nan.txt", "0 0 0 1\n1 1 1 nan\n", "nan"),
        ("word.txt", "0 0 0 1\n1 1 1 leg\n", "line 2"),
        ("mesh.obj", "v 0 0 0\nv 1 1 1\n", r"\.obj file"),
    ],
)
def test_what_cannot_be_part_labels_is_refused(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}: .*{reason}"):
        read_shape(tmp_path / name, segmented=True)


def test_files_without_labels_for_every_point_are_refused(
    tmp_path: Path, cloud: np.ndarray, seg: np.ndarray
) -> None:
    np.savez(tmp_path / "short.npz", points=cloud, seg=seg[:-1])
    with pytest.raises(DataError, match=r"short\.npz: .*\(299,\).*\(300,\)"):
        read_shape(tmp_path / "short.npz", segmented=True)
    np.savez(tmp_path / "none.npz", points=cloud)
    trimesh.PointCloud(cloud).export(tmp_path / "none.ply")
    for name in ("none.npz", "none.ply"):
        with pytest.raises(DataError, match=f"{name}: .*part label"):
            read_shape(tmp_path / name, segmented=True)


# Preparation -------------------------------------------------------------------------------------


def label_of(cloud: np.ndarray, seg: np.ndarray) -> dict[tuple[float, ...], int]:
    return {tuple(p): int(s) for p, s in zip(cloud.astype(np.float32), seg, strict=True)}


@pytest.mark.parametrize("number", [300, 20])
def test_labels_follow_their_points(cloud: np.ndarray, seg: np.ndarray, number: int) -> None:
    """Through the random choice, the order, and filling up by repetition."""
    shape = RawShape(cloud[:number], None, "cloud", seg=seg[:number])
    (prepared,) = RAW.prepare_batch([shape], num_stored=64)
    assert not isinstance(prepared, DataError)
    known = label_of(cloud, seg)
    assert prepared.seg is not None
    assert prepared.seg.tolist() == [known[tuple(p)] for p in prepared.points]
    assert len(set(prepared.seg.tolist())) == 4
    (plain,) = RAW.prepare_batch([RawShape(cloud[:number], None, "cloud")], num_stored=64)
    assert not isinstance(plain, DataError)
    assert plain.seg is None
    assert np.array_equal(plain.points, prepared.points)


def test_points_on_a_mesh_have_the_label_of_the_nearest_corner() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    upper = (mesh.vertices[:, 1] > 0).astype(int)
    shape = RawShape(np.asarray(mesh.vertices), np.asarray(mesh.faces), "ball", seg=upper)
    (prepared,) = RAW.prepare_batch([shape])
    assert not isinstance(prepared, DataError)
    assert prepared.seg is not None
    height = prepared.points[:, 1]
    clear = abs(height) > 0.2  # farther than an edge from the border
    assert (prepared.seg[clear] == (height[clear] > 0)).all()
    assert 0 < prepared.seg.mean() < 1


# Data sets ---------------------------------------------------------------------------------------


def arrays(count: int = 12, num_points: int = 50) -> dict[str, np.ndarray]:
    """Two categories whose parts are halves by height: cup 0 and 1, lamp 2 and 3."""
    points = np.random.default_rng(0).normal(size=(count, num_points, 3)).astype(np.float32)
    label = np.arange(count) % 2
    return {
        "points": points,
        "label": label,
        "names": np.array(["cup", "lamp"]),
        "seg": (2 * label[:, None] + (points[..., 1] > 0)).astype(np.int16),
        "parts": np.array(["cup/lower", "cup/upper", "lamp/lower", "lamp/upper"]),
    }


def save(path: Path, **changes: np.ndarray | None) -> Path:
    content = arrays() | changes
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


def write_folder(folder: Path, names: list[str] | None = None, **changes: np.ndarray) -> Path:
    """One text per shape in class folders."""
    content = arrays() | changes
    for number, (points, seg, label) in enumerate(
        zip(content["points"], content["seg"], content["label"], strict=True)
    ):
        target = folder / str(content["names"][label]) / f"{number:02d}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        text(target, points, seg)
    if names is not None:
        (folder / "parts.txt").write_text("\n".join(names) + "\n")
    return folder


def splits(data: object) -> list:
    return [getattr(data, name) for name in ("train", "val", "test")]


def test_archive_with_part_labels(tmp_path: Path) -> None:
    data = load_shapes(save(tmp_path / "set.npz"), RAW, segmented=True)
    assert data.part_names == ("cup/lower", "cup/upper", "lamp/lower", "lamp/upper")
    assert data.parts is not None
    assert data.parts.categories == {"cup": (0, 1), "lamp": (2, 3)}
    for split in splits(data):
        assert split.seg.dtype == np.int64
        assert split.seg.shape == split.points.shape[:2]
        assert np.array_equal(split.seg, 2 * split.labels[:, None] + (split.points[..., 1] > 0))


def test_classification_does_not_look_at_part_labels(tmp_path: Path) -> None:
    data = load_shapes(save(tmp_path / "set.npz", seg=np.full((3, 3), -7)), RAW)
    assert data.parts is None
    assert data.part_names == ()
    assert all(split.seg is None for split in splits(data))


def test_folder_with_part_labels(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", list(map(str, arrays()["parts"])))
    data = load_shapes(folder, RAW, segmented=True)
    assert data.part_names == ("cup/lower", "cup/upper", "lamp/lower", "lamp/upper")
    assert data.problems == ()
    for split in splits(data):
        assert np.array_equal(split.seg, 2 * split.labels[:, None] + (split.points[..., 1] > 0))
    assert load_shapes(folder, RAW).class_names == ("cup", "lamp")  # parts.txt is no class


def test_without_names_parts_belong_to_the_categories_that_have_them(tmp_path: Path) -> None:
    for source in (
        save(tmp_path / "set.npz", parts=None),
        write_folder(tmp_path / "set"),
    ):
        data = load_shapes(source, RAW, segmented=True)
        assert data.parts is not None
        assert data.part_names == ("part 0", "part 1", "part 2", "part 3")
        assert data.parts.categories == {"cup": (0, 1), "lamp": (2, 3)}
        assert any("cup 0, 1; lamp 2, 3" in note for note in data.notes)


def test_categories_may_share_parts(tmp_path: Path) -> None:
    seg = arrays()["seg"] % 2
    path = save(tmp_path / "set.npz", seg=seg, parts=np.array(["lower", "upper"]))
    data = load_shapes(path, RAW, segmented=True)
    assert data.parts is not None
    assert data.parts.categories == {"cup": (0, 1), "lamp": (0, 1)}


def test_subset_takes_labels_along(tmp_path: Path) -> None:
    train = load_shapes(save(tmp_path / "set.npz"), RAW, segmented=True).train
    assert train.seg is not None
    chosen = train.subset([2, 0])
    assert chosen.seg is not None
    assert np.array_equal(chosen.seg, train.seg[[2, 0]])


def test_prepared_labels_are_kept_apart_from_prepared_clouds(tmp_path: Path) -> None:
    path = save(tmp_path / "set.npz")
    first = load_shapes(path, RAW, segmented=True)
    plain = load_shapes(path, RAW)
    again = load_shapes(path, RAW, segmented=True)
    other = load_shapes(save(path, seg=arrays()["seg"] ^ 1), RAW, segmented=True)
    assert plain.train.seg is None
    assert np.array_equal(plain.train.points, first.train.points)
    for one in (first, again, other):
        assert one.train.seg is not None
        assert np.array_equal(one.train.points, first.train.points)
    assert np.array_equal(first.train.seg, again.train.seg)
    assert np.array_equal(first.train.seg, other.train.seg ^ 1)


def test_shapes_without_a_class_are_left_out(tmp_path: Path) -> None:
    label = arrays()["label"]
    label[:2] = -1
    data = load_shapes(save(tmp_path / "set.npz", label=label), RAW, segmented=True)
    assert len(data.unlabelled) == 0
    assert any(note.startswith("2 ") for note in data.notes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seg": None}, "'seg'"),
        ({"seg": arrays()["seg"][:, :-1]}, r"seg \(12, 49\).*\(12, 50\)"),
        ({"seg": arrays()["seg"].astype(float)}, "float64"),
        ({"seg": arrays()["seg"] - 1}, "-1"),
        ({"seg": arrays()["seg"] + 1}, "seg 4"),
        ({"parts": np.array(["a", "b", "b", "c"])}, r"parts: .*\bb\b"),
        ({"parts": np.array(["a", "b", "", "c"])}, "parts: "),
    ],
)
def test_wrong_part_arrays_are_refused(tmp_path: Path, changes: dict, reason: str) -> None:
    with pytest.raises(DataError, match=rf"set\.npz: .*{reason}"):
        load_shapes(save(tmp_path / "set.npz", **changes), SMALL, segmented=True)


def test_data_without_part_labels_is_refused(mesh_folder: Path) -> None:
    with pytest.raises(DataError, match="homeobjects"):
        load_shapes("homeobjects", SMALL, segmented=True)
    with pytest.raises(DataError, match=r"(?s)box_00\.off: .*\.off file"):
        load_shapes(mesh_folder, SMALL, segmented=True)


def test_parts_of_another_category_are_reported_by_shape(tmp_path: Path) -> None:
    seg = arrays()["seg"]
    seg[3] = 0  # a lamp
    path = save(tmp_path / "set.npz", seg=seg)
    data = load_shapes(path, SMALL, segmented=True)
    (problem,) = data.problems
    assert problem.item == "000003"
    assert "lamp/lower, lamp/upper" in problem.reason
    assert sum(map(len, splits(data))) == 11
    with pytest.raises(DataError, match="000003"):
        load_shapes(path, SMALL, segmented=True, on_error="refuse")


def test_parts_that_no_training_shape_has_are_reported(tmp_path: Path) -> None:
    seg, split = arrays()["seg"], np.array(["train"] * 8 + ["test"] * 4)
    seg[9, 0] = 7
    path = save(tmp_path / "set.npz", seg=seg, split=split, parts=None)
    (problem,) = load_shapes(path, SMALL, segmented=True).problems
    assert problem.item == "000009"
    assert "part 7" in problem.reason


def test_labels_beyond_the_names_are_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", ["cup/lower", "cup/upper", "lamp/lower"])
    data = load_shapes(folder, SMALL, segmented=True, class_names=("cup", "lamp"))
    assert len(data.problems) == 6
    assert "part 3" in data.problems[0].reason


@pytest.mark.parametrize(("content", "reason"), [("a\n\nb\n", ""), ("a\na\n", r"\ba\b")])
def test_names_of_parts_must_be_distinct(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "parts.txt").write_text(content)
    with pytest.raises(DataError, match=rf"parts\.txt: .*{reason}"):
        read_part_names(tmp_path / "parts.txt")


# Tables ------------------------------------------------------------------------------------------

TABLE = PartTable(("cup/lower", "cup/upper", "lamp/shade"), {"cup": (0, 1), "lamp": (2,)})


def test_a_given_table_numbers_the_parts(tmp_path: Path) -> None:
    """Data of other order, measured by a model that knows its parts already."""
    known = PartTable(
        ("lamp/upper", "lamp/lower", "cup/upper", "cup/lower"), {"lamp": (0, 1), "cup": (2, 3)}
    )
    data = load_shapes(
        save(tmp_path / "set.npz"), RAW, segmented=True, class_names=("lamp", "cup"), parts=known
    )
    assert data.parts == known
    assert data.problems == ()
    for split in splits(data):
        expected = 2 * split.labels[:, None] + (split.points[..., 1] <= 0)
        assert np.array_equal(split.seg, expected)


def test_a_table_refuses_parts_that_it_does_not_have() -> None:
    with pytest.raises(DataError, match=r"handle: .*cup"):
        TABLE.fit(np.array([0, 1]), "cup", ("cup/lower", "handle"))
    with pytest.raises(DataError, match=r"lamp/shade: .*cup"):
        TABLE.fit(np.array([0, 2]), "cup")
    with pytest.raises(DataError, match="part 3"):
        TABLE.fit(np.array([3]), "lamp")


def test_a_table_survives_a_round_trip() -> None:
    assert PartTable.from_dict(TABLE.to_dict()) == TABLE


@pytest.mark.parametrize(
    "values", [{}, {"names": ["a"], "categories": {"x": [1]}}, {"names": ["a"], "categories": []}]
)
def test_a_damaged_table_is_refused(values: dict) -> None:
    with pytest.raises(DataError, match="part table"):
        PartTable.from_dict(values)


def test_names_tell_the_categories_of_parts_that_do_not_occur() -> None:
    table = find_parts(["cup/lower", "cup/handle"], ["cup"], [("cup", np.array([0]))])
    assert table.categories == {"cup": (0, 1)}


def test_real_shapes_with_parts_load_whole(shared_dir: Path) -> None:
    data = load_shapes(shared_dir / "parts19.npz", InputTransform(256), segmented=True)
    assert data.problems == ()
    assert len(data.part_names) == 94
    assert (len(data.train) + len(data.val), len(data.test)) == (228, 76)
    assert data.parts is not None
    names = list(data.parts.categories)
    for label, seg in zip(data.test.labels, data.test.seg, strict=True):
        assert {data.part_names[part].split("/")[0] for part in seg} == {names[label]}
