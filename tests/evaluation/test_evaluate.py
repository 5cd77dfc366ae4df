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


def write_shapes(path, first=0, **arrays):
    """Ten shapes of every class; `first` is the number in the name of the first shape."""
    label = np.repeat(np.arange(len(CLASSES)), 10)
    names = [f"{CLASSES[number]}/{first + place}" for place, number in enumerate(label)]
    points = clouds(len(label), seed=3).numpy()
    np.savez(path, points=points, label=label, names=CLASSES, id=names, **arrays)


def save_adapter(folder, source, digest=None):
    """An adapter that says it was trained on `source`, and which shapes were kept apart."""
    pp.save_model(encoder(), folder / "encoder.safetensors")
    model = adapted(pp.LinearConfig())
    model.class_names, model.base_checkpoint = CLASSES, "../encoder.safetensors"
    model.input = {
        "transform": InputTransform(64).to_dict(), "statistics": None,
        "source": str(source.resolve()), "split": CUT | ({"digest": digest} if digest else {}),
    }  # fmt: skip
    model.save_pretrained(folder / "adapter")


def digests(source):
    return load_shapes(source, InputTransform(64), **CUT).digests()


def measure(folder, source, **settings):
    output = tempfile.mkdtemp(dir=folder)
    return evaluate_adapter(folder / "adapter", str(source), output, **settings)


def test_a_test_split_cut_from_other_shapes_than_in_training_is_refused(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    save_adapter(tmp_path, source, digests(source))
    assert measure(tmp_path, source)["test_items"] == 8
    write_shapes(source, first=5)
    with pytest.raises(DataError, match="has changed since the adapter was trained on it: the 8 "):
        measure(tmp_path, source)
    write_shapes(source, split=np.tile(["train"] * 8 + ["test"] * 2, len(CLASSES)))
    assert measure(tmp_path, source)["test_items"] == 8  # no one cut it: it is what it is called


def test_data_that_was_moved_with_its_run_is_known_by_the_names_of_its_shapes(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    write_shapes(before / "data.npz")
    save_adapter(before, before / "data.npz", digests(before / "data.npz"))
    there = measure(before, before / "data.npz")
    before.rename(after)
    moved = measure(after, after / "data.npz")
    assert moved["test_items"] == 8
    same = ("confusion", "val_accuracy", "test_accuracy", "class_items")
    assert [moved[key] for key in same] == [there[key] for key in same]
    assert (
        "the shapes have the names of those that the adapter was trained on" in moved["notes"][-1]
    )
    assert measure(after, after / "data.npz", split="val")["val_items"] == 8
    write_shapes(after / "data.npz", first=5)  # in another place these are other data
    assert measure(after, after / "data.npz")["test_items"] == 40


def test_splits_that_training_did_not_have_are_not_cut_for_measuring(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    whole = load_shapes(source, InputTransform(64), needed=("test",), **CUT)
    as_published = replace(whole, val=whole.test)
    assert set(as_published.digests()) == {"train", "test"}
    for place in (source, tmp_path / "elsewhere.npz"):
        save_adapter(tmp_path, place, as_published.digests())
        metrics = measure(tmp_path, source)
        assert (metrics["test_items"], metrics["val_accuracy"]) == (8, None)
        with pytest.raises(DataError, match="had no validation split"):
            measure(tmp_path, source, split="val")


def test_adapters_that_do_not_say_what_was_kept_apart_are_measured(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    save_adapter(tmp_path, source)
    assert measure(tmp_path, source)["test_items"] == 8


def test_a_damaged_digest_is_refused(tmp_path):
    write_shapes(tmp_path / "data.npz")
    save_adapter(tmp_path, tmp_path / "data.npz", "abc")
    with pytest.raises(CheckpointError, match="a table `digest` that may be there"):
        measure(tmp_path, tmp_path / "data.npz")
