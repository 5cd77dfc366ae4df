import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes
from pointpeft.data.export import export_folder, export_procedural
from pointpeft.errors import DataError


def test_exported_folder_reads_back_as_the_same_data_set(tmp_path):
    generator = np.random.default_rng(0)
    source = tmp_path / "set.npz"
    np.savez(
        source,
        points=generator.standard_normal((8, 64, 3)).astype(np.float32),
        label=np.repeat([0, 1], 4),
        names=np.array(["cup", "door"]),
        split=np.array(["train", "train", "val", "test"] * 2),
    )
    data = load_shapes(source, InputTransform(32))
    assert export_folder(data, tmp_path / "out") == 8
    again = load_shapes(tmp_path / "out", data.transform)
    assert again.class_names == data.class_names
    for part in ("train", "val", "test"):
        assert sorted(getattr(again, part).labels) == sorted(getattr(data, part).labels)


LONG = "ä" * 300


@pytest.mark.parametrize(
    "ids",
    [
        ("mug.1", "mug_1", "Mug_1", "mug 1"),
        ("a", "A", "b", "ä"),
        (f"{LONG}x", f"{LONG}y", f"{LONG}z", LONG),
    ],
)
def test_items_whose_names_look_alike_are_all_written(tmp_path, ids):
    points = np.random.default_rng(0).normal(size=(4, 64, 3))
    np.savez(
        tmp_path / "set.npz", points=points, label=np.array([0, 0, 1, 1]), id=np.array(ids),
        names=np.array([".hidden", "Hidden"]), split=np.array(["train"] * 4),
    )  # fmt: skip
    data = load_shapes(tmp_path / "set.npz", InputTransform(32), needed=())
    assert export_folder(data, tmp_path / "out") == 4
    assert len(list((tmp_path / "out").rglob("*.xyz"))) == 4
    again = load_shapes(tmp_path / "out", InputTransform(32), needed=())
    assert len(again.train) == 4
    assert len(again.class_names) == 2


def test_export_into_a_used_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=tmp_path.name):
        export_procedural(tmp_path, count=1)


def test_exported_parts_read_back_with_their_names(tmp_path):
    assert export_procedural(tmp_path / "made", ("seat", "table"), count=5, num_points=128) == 10
    data = load_shapes(tmp_path / "made", InputTransform(32), segmented=True)
    assert data.class_names == ("seat", "table")
    assert {"seat/back", "table/top"} <= set(data.part_names)
    assert data.parts.names == tuple(sorted(data.part_names))
    assert export_folder(data, tmp_path / "out") == 10
    again = load_shapes(tmp_path / "out", data.transform, segmented=True)
    assert again.parts == data.parts
    for part in ("train", "val", "test"):
        first, second = (
            np.sort([np.sort(seg) for seg in getattr(one, part).seg]) for one in (data, again)
        )
        assert len(first) > 0
        assert np.array_equal(first, second)


def test_procedural_shapes_are_the_same_for_a_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        export_procedural(tmp_path / name, ("tool",), count=2, num_points=64, seed=seed)
    a, b, c = ((tmp_path / name / "tool/0001.xyz").read_text() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "..", "a/b", "a\\b", " "])
def test_class_names_do_not_lead_out_of_the_folder(tmp_path, name):
    points = np.random.default_rng(0).normal(size=(8, 64, 3))
    names = np.array([name, name.replace("/", "_")])
    np.savez(tmp_path / "set.npz", points=points, label=np.arange(8) % 2, names=names)
    if names[0] == names[1]:
        names[1] = "other"
        np.savez(tmp_path / "set.npz", points=points, label=np.arange(8) % 2, names=names)
    data = load_shapes(tmp_path / "set.npz", val_fraction=0.0)
    assert export_folder(data, tmp_path / "deep" / "er" / "out") == 8
    written = {path.resolve() for path in tmp_path.rglob("*.xyz")}
    assert len(written) == 8
    assert all((tmp_path / "deep" / "er" / "out") in path.parents for path in written)


@pytest.mark.parametrize(
    ("settings", "named"), [({"programs": ("chair",)}, "'chair'"), ({"count": 0}, "count=0")]
)
def test_impossible_exports_leave_no_folder(tmp_path, settings, named):
    with pytest.raises(DataError, match=named):
        export_procedural(tmp_path / "made", **settings)
    assert not (tmp_path / "made").exists()
