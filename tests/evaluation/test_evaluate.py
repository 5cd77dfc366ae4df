"""Shapes that an adapter may have been trained on are not measured as a test."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.data import InputTransform, load_shapes
from pointpeft.errors import CheckpointError, DataError
from pointpeft.evaluation import analysis
from pointpeft.evaluation.evaluate import evaluate_adapter
from tests.models.tiny import clouds
from tests.peft.support import adapted, encoder

CLASSES = ("box", "cone", "rod", "torus")
CUT = {"seed": 0, "val_fraction": 0.2}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("POINTPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(analysis, "project", lambda features, seed=0: (features[:, :2], "PCA"))


def write_shapes(path, kept=range(40), seed=3, prefix="", **arrays):
    """Ten shapes of every class; those of `kept` are written."""
    kept = list(kept)
    label = np.repeat(np.arange(len(CLASSES)), 10)[kept]
    names = [
        f"{prefix}{CLASSES[number]}/{place}" for place, number in zip(kept, label, strict=True)
    ]
    points = clouds(40, seed=seed).numpy()[kept]
    np.savez(path, points=points, label=label, names=CLASSES, id=names, **arrays)


def save_adapter(folder, source, shapes=None):
    """An adapter that says it was trained on `source`, and which shapes were kept apart."""
    pp.save_model(encoder(), folder / "encoder.safetensors")
    model = adapted(pp.LinearConfig())
    model.class_names, model.base_checkpoint = CLASSES, "../encoder.safetensors"
    model.input = {
        "transform": InputTransform(64).to_dict(), "statistics": None,
        "source": str(source.resolve()), "split": CUT | ({"shapes": shapes} if shapes else {}),
    }  # fmt: skip
    model.save_pretrained(folder / "adapter")


def digests(source):
    return load_shapes(source, InputTransform(64), **CUT).digests()


def measure(folder, source, **settings):
    output = tempfile.mkdtemp(dir=folder)
    return evaluate_adapter(folder / "adapter", str(source), output, **settings)


@pytest.fixture
def trained(tmp_path):
    """A data set of 40 shapes, of which an adapter was trained on 24 and kept 8 and 8 apart."""
    source = tmp_path / "data.npz"
    write_shapes(source)
    save_adapter(tmp_path, source, digests(source))
    return source


def test_what_was_trained_on_is_known_wherever_it_lies(tmp_path, trained):
    there = measure(tmp_path, trained)
    assert there["test_items"] == 8
    assert there["val_accuracy"] is not None
    write_shapes(tmp_path / "copy.npz", prefix="renamed ")
    moved = measure(tmp_path, tmp_path / "copy.npz")
    same = ("confusion", "val_accuracy", "test_accuracy", "class_items")
    assert [moved[key] for key in same] == [there[key] for key in same]
    assert any("24 of the 40" in note for note in moved["notes"])
    assert measure(tmp_path, tmp_path / "copy.npz", split="val")["val_items"] == 8
    assert measure(tmp_path, tmp_path / "copy.npz", split="train")["train_items"] == 24


def test_other_shapes_of_the_same_names_are_new(tmp_path, trained):
    write_shapes(tmp_path / "other.npz", seed=4)
    for source in (tmp_path / "other.npz", trained):
        write_shapes(source, seed=4)
        assert measure(tmp_path, source)["test_items"] == 40


def test_a_set_that_has_grown_or_shrunk_is_measured_without_training_shapes(tmp_path, trained):
    kept = digests(trained)
    for rows in (range(39), range(1, 40), range(5, 30)):
        write_shapes(trained, rows)
        now = load_shapes(trained, InputTransform(64), val_fraction=0.0).train
        expected = sum(digest in kept["test"] for digest in now.digests)
        assert measure(tmp_path, trained)["test_items"] == expected
    points = np.concatenate([clouds(40, seed=3).numpy(), clouds(2, seed=9).numpy()])
    label = np.concatenate([np.repeat(np.arange(4), 10), [0, 1]])
    names = [f"old {place}" for place in range(40)] + ["new one", "new two"]
    np.savez(trained, points=points, label=label, names=CLASSES, id=names)
    metrics = measure(tmp_path, trained)
    assert metrics["test_items"] == 10
    assert any("2 are new" in note and "new one, new two" in note for note in metrics["notes"])


def test_stated_splits_hold_nothing_that_was_trained_on(tmp_path, trained):
    kept = digests(trained)
    split = np.tile(["train"] * 8 + ["test"] * 2, len(CLASSES))
    write_shapes(trained, split=split)
    part = load_shapes(trained, InputTransform(64), needed=()).test
    unseen = sum(digest not in kept["train"] + kept["val"] for digest in part.digests)
    metrics = measure(tmp_path, trained)
    assert 0 < metrics["test_items"] == unseen < 8
    assert measure(tmp_path, trained, split="all")["all_items"] == 40


def test_nothing_left_to_measure_is_refused(tmp_path, trained):
    data = load_shapes(trained, InputTransform(64), **CUT)
    seen = [int(name.split("/")[1]) for name in data.train.ids]
    write_shapes(trained, seen)
    with pytest.raises(DataError, match="24 of the 24"):
        measure(tmp_path, trained)


def test_splits_that_training_did_not_have_are_not_measured(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    whole = load_shapes(source, InputTransform(64), needed=("test",), **CUT)
    as_published = replace(whole, val=whole.test)
    assert set(as_published.digests()) == {"train", "test"}
    save_adapter(tmp_path, source, as_published.digests())
    metrics = measure(tmp_path, source)
    assert (metrics["test_items"], metrics["val_accuracy"]) == (8, None)
    with pytest.raises(DataError, match="had no validation split"):
        measure(tmp_path, source, split="val")


def test_adapters_that_do_not_say_what_was_trained_on_get_a_note(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    save_adapter(tmp_path, source)
    metrics = measure(tmp_path, source)
    assert metrics["test_items"] == 40
    assert any("does not say" in note for note in metrics["notes"])


@pytest.mark.parametrize("shapes", ["abc", {"train": "abc"}, {"train": [1]}, {"holdout": []}])
def test_damaged_digests_are_refused(tmp_path, shapes):
    write_shapes(tmp_path / "data.npz")
    save_adapter(tmp_path, tmp_path / "data.npz", shapes)
    with pytest.raises(CheckpointError, match="shapes"):
        measure(tmp_path, tmp_path / "data.npz")
