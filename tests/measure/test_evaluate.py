"""Shapes that an adapter may have been trained on are not measured as a test."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.compat.clouds import load_as_published
from pointpeft.data import InputTransform, load_shapes
from pointpeft.data.cache import pack_digests, unpack_digests
from pointpeft.errors import CheckpointError, DataError
from pointpeft.measure import analysis
from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.models import build_classifier
from pointpeft.training.config import DataConfig
from tests.data.benchmarks import layouts
from tests.models.tiny import clouds
from tests.peft.support import adapted, encoder

CLASSES = ("box", "cone", "rod", "torus")
CUT = {"seed": 0, "val_fraction": 0.2}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("POINTPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(analysis, "project", lambda features: (features[:, :2], "PCA"))


def write_shapes(path, kept=range(40), seed=3, prefix="", **arrays):
    """Ten shapes of every class; those of `kept` are written."""
    kept = list(kept)
    label = np.repeat(np.arange(len(CLASSES)), 10)[kept]
    names = [
        f"{prefix}{CLASSES[number]}/{place}" for place, number in zip(kept, label, strict=True)
    ]
    points = clouds(40, seed=seed).numpy()[kept]
    np.savez(path, points=points, label=label, names=CLASSES, id=names, **arrays)


def save_adapter(folder, source, shapes=None, family=None, **others):
    """An adapter that says it was trained on `source`, and which shapes were kept apart."""
    pp.save_model(encoder(), folder / "encoder.safetensors")
    model = adapted(pp.LinearConfig())
    model.class_names, model.base_checkpoint = CLASSES, "../encoder.safetensors"
    model.input = {
        "transform": InputTransform(64).to_dict(), "statistics": None,
        "source": str(source.resolve()), "family": family,
        "split": CUT | ({"shapes": shapes} if shapes else {}) | others,
    }  # fmt: skip
    model.save_pretrained(folder / "adapter")


def digests(source):
    return load_shapes(source, InputTransform(64), **CUT).digests()


def kept_apart(source):
    return {split: unpack_digests(packed) for split, packed in digests(source).items()}


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
    of_training = measure(tmp_path, tmp_path / "copy.npz", split="train")
    assert of_training["train_items"] == 24
    assert any("24 of the 24" in note for note in of_training["notes"])


def test_what_was_trained_on_is_known_in_other_kinds_of_files(tmp_path, trained):
    with np.load(trained) as file:
        points, label = file["points"], file["label"]
    for place, (cloud, number) in enumerate(zip(points, label, strict=True)):
        folder = tmp_path / "files" / CLASSES[number]
        folder.mkdir(parents=True, exist_ok=True)
        if place % 2:
            np.save(folder / f"{place}.npy", cloud.astype(np.float64))
        else:
            np.savetxt(folder / f"{place}.xyz", cloud, fmt="%.9g")
    there, moved = measure(tmp_path, trained), measure(tmp_path, tmp_path / "files")
    same = ("val_accuracy", "test_accuracy", "class_items")
    assert [moved[key] for key in same] == [there[key] for key in same]


def test_other_shapes_of_the_same_names_are_new(tmp_path, trained):
    write_shapes(tmp_path / "other.npz", seed=4)
    for source in (tmp_path / "other.npz", trained):
        write_shapes(source, seed=4)
        assert measure(tmp_path, source)["test_items"] == 40


def test_a_set_that_has_grown_or_shrunk_is_measured_without_training_shapes(tmp_path, trained):
    kept = kept_apart(trained)
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
    assert any("2 of the 10" in note and "new one, new two" in note for note in metrics["notes"])


def test_stated_splits_hold_nothing_that_was_trained_on(tmp_path, trained):
    kept = kept_apart(trained)
    split = np.tile(["train"] * 8 + ["test"] * 2, len(CLASSES))
    write_shapes(trained, split=split)
    part = load_shapes(trained, InputTransform(64), needed=()).test
    unseen = sum(digest not in kept["train"] + kept["val"] for digest in part.digests)
    metrics = measure(tmp_path, trained)
    assert 0 < metrics["test_items"] == unseen < 8
    assert measure(tmp_path, trained, split="all")["all_items"] == 40


def test_new_shapes_are_named_also_where_all_others_were_trained_on(tmp_path, trained):
    data = load_shapes(trained, InputTransform(64), **CUT)
    seen = [int(name.split("/")[1]) for name in data.train.ids]
    points = np.concatenate([clouds(40, seed=3).numpy()[seen], clouds(2, seed=9).numpy()])
    label = np.concatenate([np.repeat(np.arange(4), 10)[seen], [0, 1]])
    names = [*map(str, seen), "new one", "new two"]
    np.savez(trained, points=points, label=label, names=CLASSES, id=names)
    metrics = measure(tmp_path, trained)
    assert metrics["test_items"] == 2
    assert any("new one, new two" in note for note in metrics["notes"])


def test_validation_shapes_that_were_trained_on_are_not_validated(tmp_path, trained):
    split = np.tile(["val"] * 8 + ["test"] * 2, len(CLASSES))
    write_shapes(trained, split=split)
    part = load_shapes(trained, InputTransform(64), class_names=CLASSES).val
    save_adapter(tmp_path, trained, {"train": pack_digests(part.digests[1:]), "val": ""})
    metrics = measure(tmp_path, trained, split="val")
    assert metrics["val_items"] == 1
    assert metrics["val_accuracy"] in (0, 1)
    assert measure(tmp_path, trained)["val_accuracy"] == metrics["val_accuracy"]


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """ScanObjectNN in three variants, and an adapter trained on one of them."""
    made = layouts.clouds
    monkeypatch.setattr(layouts, "clouds", lambda count, _, *rest: made(count, 64, *rest))
    folder = layouts.write_scanobjectnn(tmp_path)
    pp.save_model(encoder(), tmp_path / "encoder.safetensors")

    def save(variant, protocol="honest"):
        if protocol == "published":
            data = load_as_published(DataConfig(folder, variant), InputTransform(64))
        else:
            data = load_shapes(folder, InputTransform(64), variant=variant)
        model = pp.get_peft_model(
            build_classifier(encoder(), len(data.class_names)), pp.LinearConfig()
        )
        model.class_names, model.base_checkpoint = data.class_names, "../encoder.safetensors"
        model.input = {
            "transform": InputTransform(64).to_dict(), "statistics": None, "source": str(folder),
            "family": data.family, "split": CUT | {"shapes": data.digests()},
        }  # fmt: skip
        model.save_pretrained(tmp_path / "adapter")
        return folder

    return save


@pytest.mark.parametrize("variant", ["obj_bg", "obj_only", "pb_t50_rs"])
def test_variants_of_a_published_set_hold_the_same_objects(tmp_path, scans, variant):
    folder = scans("obj_only")
    chose_epoch = load_shapes(folder, InputTransform(64), variant="obj_only").val.ids
    ids = load_shapes(folder, InputTransform(64), variant=variant, needed=()).train.ids
    seen = len(set(ids) - set(chose_epoch))  # names tell which is which, but for pb_t50_rs
    metrics = measure(tmp_path, folder, variant=variant, split="all")
    note = f"trained on {seen} of the {metrics['all_items']}"
    assert any(note in each for each in metrics["notes"])
    tested = measure(tmp_path, folder, variant=variant)
    assert tested["test_items"] == metrics["all_items"] - len(ids)


def test_the_published_protocol_measures_copies_and_says_so(tmp_path, scans):
    folder = scans("obj_bg", "published")
    path = folder / "main_split/test_objectdataset.h5"
    path.write_bytes((folder / "main_split/training_objectdataset.h5").read_bytes())
    metrics = measure(tmp_path, folder, variant="obj_bg", protocol="published")
    assert metrics["test_items"] == 4
    assert any("4 of the 4" in note for note in metrics["notes"])
    with pytest.raises(DataError, match=r"\b4\D+4\b"):
        measure(tmp_path, folder, variant="obj_bg")


def test_nothing_left_to_measure_is_refused(tmp_path, trained):
    data = load_shapes(trained, InputTransform(64), **CUT)
    seen = [int(name.split("/")[1]) for name in data.train.ids]
    write_shapes(trained, seen)
    with pytest.raises(DataError, match=r"\b24\D+24\b"):
        measure(tmp_path, trained)


def test_splits_that_training_did_not_have_are_not_measured(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    whole = load_shapes(source, InputTransform(64), needed=("test",), **CUT)
    as_published = replace(whole, val=whole.test, selects_on="test")
    assert set(as_published.digests()) == {"train", "test"}
    save_adapter(tmp_path, source, as_published.digests())
    metrics = measure(tmp_path, source)
    assert (metrics["test_items"], metrics["val_accuracy"]) == (8, None)
    with pytest.raises(DataError, match=r"val.*test"):
        measure(tmp_path, source, split="val")


def test_adapters_that_do_not_say_what_was_trained_on_get_a_note(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source)
    save_adapter(tmp_path, source)
    metrics = measure(tmp_path, source)
    assert metrics["test_items"] == 40
    assert any("does not say" in note for note in metrics["notes"])


def test_adapters_that_hashed_names_get_the_note_too(tmp_path):
    source = tmp_path / "data.npz"
    write_shapes(source, split=np.tile(["train"] * 8 + ["test"] * 2, len(CLASSES)))
    save_adapter(tmp_path, source, digest={"train": "0" * 64, "test": "1" * 64})
    metrics = measure(tmp_path, source)
    assert metrics["test_items"] == 8
    assert any("does not say" in note for note in metrics["notes"])


@pytest.mark.parametrize("shapes", ["abc", {"train": "abc"}, {"train": [1]}, {"holdout": []}])
def test_damaged_digests_are_refused(tmp_path, shapes):
    write_shapes(tmp_path / "data.npz")
    save_adapter(tmp_path, tmp_path / "data.npz", shapes)
    with pytest.raises(CheckpointError, match="shapes"):
        measure(tmp_path, tmp_path / "data.npz")
