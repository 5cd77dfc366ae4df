"""The analysis of a trained model: what it says of mistakes and maps, and at the edges."""

import json

import numpy as np
import pytest
import torch

import pointpeft as pp
from pointpeft.data import InputTransform, ShapeSplit
from pointpeft.measure import classify, extract_features
from pointpeft.measure.analysis import analyse, analyse_change, project
from pointpeft.measure.loaded_adapter import LoadedAdapter
from tests.models.tiny import clouds
from tests.peft.support import CONFIGS, adapted, encoder

CLASSES = 4


def split(count, seed, prefix, labels=None):
    points = clouds(count, seed=seed).numpy() if count else np.zeros((0, 64, 3), np.float32)
    labels = np.arange(count) % CLASSES if labels is None else np.asarray(labels)
    return ShapeSplit(points, labels.astype(np.int64), tuple(f"{prefix}{i}" for i in range(count)))


def relabelled(model, shapes, wrong):
    """The same shapes with labels that the model gets right, but for those in `wrong`."""
    if not len(shapes):
        return shapes
    predicted = classify(model, torch.from_numpy(shapes.points)).argmax(1).numpy()
    labels = np.where(np.isin(np.arange(len(shapes)), wrong), (predicted + 1) % CLASSES, predicted)
    return ShapeSplit(shapes.points, labels, shapes.ids)


def features(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 24)).astype(np.float32)


@pytest.fixture
def model():
    return adapted(pp.LinearConfig())


def test_mistakes_name_the_nearest_training_shapes(model):
    train, test = split(12, 5, "train/"), relabelled(model, split(6, 9, "test/"), wrong=[1, 4])
    before_train, before_test = features(12), features(6, seed=1)
    query = before_test[4]
    for place, noise in ((7, 0.0), (2, 0.1), (9, 0.3)):  # scaled: only the direction counts
        before_train[place] = (place + 1) * (query + noise * np.eye(24)[0] * np.linalg.norm(query))
    found = analyse(model, train, test, before_train, before_test)["mistakes"]
    assert found["total"] == 2
    assert {item["id"] for item in found["listed"]} == {"test/1", "test/4"}
    (item,) = (item for item in found["listed"] if item["id"] == "test/4")
    assert [near["id"] for near in item["neighbours"]] == ["train/7", "train/2", "train/9"]
    assert item["neighbours"][0]["similarity"] == pytest.approx(1.0)
    assert [near["label"] for near in item["neighbours"]] == train.labels[[7, 2, 9]].tolist()
    logits = classify(model, torch.from_numpy(test.points[4:5]))
    assert item["predicted"] == int(logits.argmax())
    assert item["label"] == test.labels[4] != item["predicted"]
    assert item["probability"] == pytest.approx(float(logits.softmax(1).max()), abs=1e-4)
    cloud = np.array(found["clouds"][item["neighbours"][0]["cloud"]]).reshape(-1, 3)
    np.testing.assert_allclose(cloud, train.points[7], atol=6e-4)


def test_surest_mistakes_come_first_and_forty_are_kept(model):
    test = relabelled(model, split(50, 9, "test/"), wrong=range(50))
    found = analyse(model, split(4, 5, "train/"), test, features(4), features(50))["mistakes"]
    sure = [item["probability"] for item in found["listed"]]
    assert (found["total"], len(sure)) == (50, 40)
    assert sure == sorted(sure, reverse=True)


def test_a_shape_is_not_its_own_neighbour(model):
    shapes = relabelled(model, split(8, 5, "train/"), wrong=range(8))
    found = analyse(model, shapes, shapes, features(8), features(8))
    for item in found["mistakes"]["listed"]:
        near = [neighbour["id"] for neighbour in item["neighbours"]]
        assert len(near) == 3
        assert item["id"] not in near
    assert found["map"]["shown"] == 8  # and it is on the map once


@pytest.mark.parametrize("name", CONFIGS)
def test_same_for_the_same_input_and_ready_for_json(name):
    model = adapted(CONFIGS[name](), with_bank=name.startswith("point-peft"))
    train, test = split(12, 5, "train/"), split(8, 9, "test/")
    before = [extract_features(encoder(), torch.from_numpy(part.points)) for part in (train, test)]
    first, second = (analyse(model, train, test, *before) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first["map"]["held_out"] == [False] * 12 + [True] * 8
    assert first["map"]["labels"] == [*train.labels.tolist(), *test.labels.tolist()]
    assert first["map"]["method"] == "t-SNE"
    assert (first["map"]["after"] is None) == (name == "linear")  # the head alone is trained
    predicted = classify(model, torch.from_numpy(test.points)).argmax(1).numpy()
    assert np.trace(first["confusion"]) == (predicted == test.labels).sum()
    assert np.sum(first["confusion"], axis=1).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("train_items", [0, 1, 12])
@pytest.mark.parametrize("test_items", [0, 1, 3])
def test_copes_with_few_or_no_items(train_items, test_items):
    model = adapted(pp.FullConfig())
    train = split(train_items, 5, "train/")
    test = relabelled(model, split(test_items, 9, "test/"), wrong=range(test_items))
    found = analyse(
        model, train, test, features(train_items), features(test_items, 1), "validation"
    )
    places = found["map"]["before"] + found["map"]["after"]
    assert len(places) == 2 * (train_items + test_items)
    assert np.isfinite(places).all()
    assert found["mistakes"]["total"] == test_items
    assert found["part"] == "validation"
    for item in found["mistakes"]["listed"]:
        assert len(item["neighbours"]) == min(3, train_items)


def test_saved_adapter_is_measured_beside_its_own_encoder(model, tmp_path):
    pp.save_model(encoder(), tmp_path / "encoder.safetensors")
    model.base_checkpoint, transform = "../encoder.safetensors", InputTransform(64)
    model.save_pretrained(tmp_path / "adapter", class_names=[*"abcd"], input_transform=transform)
    train, test = split(12, 5, "train/"), split(4, 9, "test/")
    before = [extract_features(encoder(), torch.from_numpy(part.points)) for part in (train, test)]
    loaded = LoadedAdapter(tmp_path / "adapter")
    found = analyse_change(loaded.backbone, loaded.model, train, test)
    assert found == analyse(loaded.model, train, test, *before)


def test_map_keeps_far_groups_apart():
    groups = np.repeat(np.eye(3, 24), 15, axis=0) + 0.01 * features(45)
    places, method = project(groups)
    assert method == "t-SNE"
    centers = places.reshape(3, 15, 2).mean(axis=1)
    spread = np.linalg.norm(places.reshape(3, 15, 2) - centers[:, None], axis=-1).max()
    apart = min(np.linalg.norm(centers[i] - centers[j]) for i in range(3) for j in range(i))
    assert apart > spread


def test_map_of_identical_features_is_one_place():
    places, method = project(np.ones((20, 24)))
    assert method == "PCA"
    assert not places.any()
