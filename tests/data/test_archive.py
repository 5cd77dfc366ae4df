from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes, load_unlabelled
from pointpeft.errors import DataError

SMALL = InputTransform(num_points=32)


def arrays(count: int = 20, num_points: int = 50) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "points": generator.normal(size=(count, num_points, 3)).astype(np.float16),
        "label": np.arange(count) % 2,
        "names": np.array(["zebra", "apple"]),
        "split": np.array(["train", "train", "test", "test"] * (count // 4)),
        "model": np.array([f"m{place}.obj" for place in range(count)]),
        "seg": np.zeros((count, num_points), np.int16),
    }


def save(tmp_path: Path, **changes: np.ndarray | None) -> Path:
    content = arrays() | changes
    np.savez(tmp_path / "set.npz", **{k: v for k, v in content.items() if v is not None})
    return tmp_path / "set.npz"


def test_archive_keeps_names_parts_and_ids(tmp_path: Path) -> None:
    extra = np.array([{"made": "by hand"}], dtype=object)  # nothing that is needed
    data = load_shapes(save(tmp_path, extra=extra), SMALL)
    assert data.class_names == ("zebra", "apple")
    assert (len(data.train), len(data.val), len(data.test)) == (8, 2, 10)
    assert data.test.ids[:2] == ("m2.obj", "m3.obj")
    assert data.test.labels[:2].tolist() == [0, 1]


def test_no_more_points_are_stored_than_there_are(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert load_shapes(path, SMALL).train.points.shape[1] == 50
    assert load_shapes(path, InputTransform(16)).train.points.shape[1] == 32
    assert load_shapes(path, InputTransform(64)).train.points.shape[1] == 64
    assert load_shapes(path, SMALL, num_stored=70).train.points.shape[1] == 70


def test_archive_without_parts_or_ids_is_split(tmp_path: Path) -> None:
    data = load_shapes(save(tmp_path, split=None, model=None), SMALL)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 4, 4)
    assert set(data.train.ids) <= {f"{place:06d}" for place in range(20)}


def test_negative_labels_are_unlabelled(tmp_path: Path) -> None:
    label = arrays()["label"]
    label[:4] = -1
    data = load_shapes(save(tmp_path, label=label), SMALL)
    assert data.unlabelled.ids == ("m0.obj", "m1.obj", "m2.obj", "m3.obj")
    assert data.unlabelled.labels.tolist() == [-1] * 4


def test_unused_names_are_left_out_with_a_note(tmp_path: Path) -> None:
    data = load_shapes(save(tmp_path, names=np.array(["zebra", "apple", "mango"])), SMALL)
    assert data.class_names == ("zebra", "apple")
    assert "mango" in data.notes[0]


def test_repeated_ids_are_told_apart(tmp_path: Path) -> None:
    data = load_shapes(save(tmp_path, model=np.array(["same"] * 20)), SMALL)
    ids = [*data.train.ids, *data.val.ids, *data.test.ids]
    assert len(set(ids)) == 20


def test_bad_cloud_is_reported_by_its_id(tmp_path: Path) -> None:
    points = arrays()["points"]
    points[4, 7] = np.nan
    points[5, :30] = np.nan
    points[6] = 1
    data = load_shapes(save(tmp_path, points=points), SMALL)
    assert [problem.item for problem in data.problems] == ["m5.obj", "m6.obj"]
    assert "30 of 50" in data.problems[0].reason
    assert any("m4.obj: 1 of 50" in note for note in data.notes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"points": None}, r"'label', 'model', 'names'"),
        ({"points": np.zeros((20, 50))}, r"points \(20, 50\)"),
        ({"points": np.zeros((0, 50, 3))}, r"\(0, 50, 3\)"),
        ({"points": np.zeros((20, 3, 50))}, r"\(20, 50, 3\)"),
        ({"points": np.zeros((20, 6, 50))}, r"\(20, 50, 6\)"),
        ({"label": None}, "'label'"),
        ({"names": None}, "'names'"),
        ({"label": np.zeros(7, int)}, r"label \(7,\)"),
        ({"label": np.full(20, 2)}, "label 2"),
        ({"label": np.zeros(20)}, "float64"),
        ({"names": np.array(["a", "a"])}, r"\ba\b"),
        ({"split": np.array(["holdout"] * 20)}, "holdout"),
        ({"names": np.array(["a", "b"], dtype=object)}, r"names\.npy"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, changes: dict, reason: str) -> None:
    with pytest.raises(DataError, match=rf"set\.npz: .*{reason}"):
        load_shapes(save(tmp_path, **changes), SMALL)


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"set\.npz"):
        load_shapes(path, SMALL)


def test_unlabelled_archive_needs_only_points(tmp_path: Path) -> None:
    shapes = load_unlabelled(save(tmp_path, label=None, names=None, split=None), SMALL)
    assert len(shapes) == 20


def test_unlabelled_archive_leaves_test_shapes_out(tmp_path: Path) -> None:
    assert len(load_unlabelled(save(tmp_path), SMALL)) == 10


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small stand-in for the data set that comes with the package."""
    data = SimpleNamespace(
        points=np.random.default_rng(0).normal(size=(8, 40, 3)).astype(np.float32),
        labels=np.array([0, 1, 0, 1, 0, 1, -1, -1]),
        class_names=("cup", "bowl"),
        split=np.array(["train"] * 2 + ["val"] * 2 + ["test"] * 2 + ["unlabelled"] * 2),
        ids=np.array([f"object{place}" for place in range(8)]),
    )
    monkeypatch.setattr("pointpeft.data.embedded.load_homeobjects", lambda: data)


@pytest.mark.usefixtures("embedded")
def test_embedded_set_keeps_its_parts() -> None:
    data = load_shapes("homeobjects", SMALL)
    assert data.class_names == ("cup", "bowl")
    assert data.train.ids == ("object0", "object1")
    assert data.val.labels.tolist() == [0, 1]
    assert data.test.points.shape == (2, 40, 3)
    assert data.unlabelled.labels.tolist() == [-1, -1]
    assert data.notes == ()


@pytest.mark.usefixtures("embedded")
def test_embedded_set_for_pre_training_is_train_and_unlabelled() -> None:
    shapes = load_unlabelled("homeobjects", SMALL)
    assert shapes.ids == ("object0", "object1", "object6", "object7")
