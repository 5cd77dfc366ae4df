"""Adapters that were saved in Python, and weights that are elsewhere, on the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
import trimesh

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_PRETRAINED
from pointpeft.data import load_shapes, read_shape
from tests.cli.conftest import run
from tests.models.test_published import publish
from tests.training.support import CLASSES, TINY_BACKBONE

POINTS = 256


def embedded_model():
    """A classifier on the weights that come with the package."""
    torch.manual_seed(0)
    backbone = pp.create_model("point_mae_small", pretrained=True)
    return pp.get_peft_model(pp.build_classifier(backbone, len(CLASSES)), pp.LinearConfig())


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """The folder of an adapter that `save_pretrained` wrote, and its model."""
    folder, model = tmp_path_factory.mktemp("hand") / "my_adapter", embedded_model()
    transform = pp.InputTransform(num_points=POINTS, up_axis="z")
    model.save_pretrained(folder, class_names=CLASSES, input_transform=transform)
    return folder, model.eval()


def test_an_adapter_saved_by_hand_predicts_what_its_model_does(
    by_hand, meshes, tmp_path, monkeypatch
):
    folder, model = by_hand
    monkeypatch.chdir(tmp_path)
    file = meshes / "torus/torus_00.off"
    result = run("predict", "--adapter", folder, "--json", file)
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)
    points = pp.InputTransform(POINTS, up_axis="z").prepare(read_shape(file))[:POINTS]
    probabilities = model(torch.from_numpy(points)[None])[0].softmax(0).detach()
    best = int(probabilities.argmax())
    assert found["class"] == CLASSES[best]
    assert found["probability"] == pytest.approx(float(probabilities[best]), abs=1e-6)
    assert pp.Predictor(folder).predict([file])[0].label == CLASSES[best]


def test_an_adapter_saved_by_hand_is_evaluated_and_what_is_unknown_is_said(
    by_hand, meshes, tmp_path
):
    folder, _ = by_hand
    result = run("evaluate", "--adapter", folder, "--data", meshes, "--output", tmp_path / "out")
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["test_items"] == 4 * 8
    assert any("does not say which shapes it was trained on" in note for note in metrics["notes"])


def test_an_adapter_without_names_is_refused_with_the_remedy(meshes, tmp_path):
    model = embedded_model()
    model.save_pretrained(tmp_path / "unnamed", input_transform=pp.InputTransform(POINTS))
    model.save_pretrained(tmp_path / "named", class_names=CLASSES)
    model = embedded_model()
    model.save_pretrained(tmp_path / "without input", class_names=CLASSES)
    for name in ("unnamed", "without input"):
        result = run("predict", "--adapter", tmp_path / name, meshes)
        assert result.code == 1
        assert "class_names" in result.err
        assert "input_transform" in result.err
    assert run("predict", "--adapter", tmp_path / "named", meshes / "box").code == 0


@pytest.mark.parametrize("name", ["embedded", "point_mae_small"])
def test_embedded_weights_can_be_named(by_hand, archive, meshes, tmp_path, monkeypatch, name):
    folder, _ = by_hand
    monkeypatch.chdir(tmp_path)
    assert run("predict", "--adapter", folder, "--checkpoint", name, meshes / "box").code == 0
    tuned = run(
        "finetune", "--data", archive, "--checkpoint", name, "--method", "linear", "--epochs", 1,
        "--output", "tuned", "data.num_points=128", "trainer.accelerator=cpu",
    )  # fmt: skip
    assert tuned.code == 0, tuned.err
    config = json.loads((tmp_path / "tuned/adapter/adapter_config.json").read_text())
    assert config["base_model"]["checkpoint"] == "embedded"


def test_embedded_weights_of_a_model_without_any_are_refused(by_hand, archive):
    result = run("finetune", "--data", archive, "--model", "point_mae", "--checkpoint", "embedded")
    assert result.code == 1
    assert "point_mae" in result.err


def test_predict_and_evaluate_take_the_checkpoints_of_finetune(trained, weights, meshes, tmp_path):
    """A run folder, a file of ours, and a published one with the same weights."""
    adapter = shutil.copytree(trained / "adapter", tmp_path / "far/away/alone/adapter")
    file = meshes / "box/box_00.off"
    assert run("predict", "--adapter", adapter, file).code == 1
    (tmp_path / "pretrained").mkdir()
    shutil.copy(weights, tmp_path / "pretrained/backbone.safetensors")
    whole = pp.create_model(
        "point_mae_small", task="pretraining", checkpoint=weights, **TINY_BACKBONE
    )
    published = publish(tmp_path / "pretrain.pth", POINT_MAE_PRETRAINED.theirs(whole.state_dict()))
    expected = run("predict", "--adapter", trained, "--json", file).out
    for checkpoint in (weights, tmp_path / "pretrained", published):
        given = ["--adapter", adapter, "--checkpoint", checkpoint]
        assert run("predict", *given, "--json", file).out == expected
        output = tmp_path / f"measured-{checkpoint.name}"
        result = run("evaluate", *given, "--data", meshes, "--output", output)
        assert result.code == 0, result.err
    result = run("predict", "--adapter", adapter, "--checkpoint", adapter.parent, file)
    assert result.code == 1
    assert "backbone.safetensors" in result.err


def test_predict_shows_the_notes_that_training_shows(trained, tmp_path):
    """Of a mesh whose faces have no area, and of a cloud with fewer points than the model sees."""
    box = trimesh.creation.box()
    vertices = trimesh.creation.icosphere(subdivisions=1).vertices
    flat = trimesh.Trimesh(vertices, np.zeros((4, 3), dtype=int), process=False)
    for place in range(2):
        for number, name in enumerate(CLASSES[:2]):
            (tmp_path / name).mkdir(exist_ok=True)
            cloud = box.sample(20 + place, seed=2 * place + number)
            np.save(tmp_path / name / f"{place}.npy", cloud)
    flat.export(tmp_path / CLASSES[0] / "flat.off")
    data = load_shapes(tmp_path, pp.InputTransform(64), val_fraction=0.0)
    noticed = {note.split(": ", 1)[1] for note in data.notes if ".npy" in note or ".off" in note}
    assert len(noticed) > 1
    found = json.loads(run("predict", "--adapter", trained, "--json", tmp_path).out)
    assert noticed <= {warning for each in found for warning in each["warnings"]}
    shown = run("predict", "--adapter", trained, tmp_path / CLASSES[0] / "flat.off")
    assert "non-zero area" in shown.err


def test_an_adapter_of_a_run_holds_no_place_and_no_item_of_private_data(trained, meshes):
    for file in (trained / "adapter").iterdir():
        content = file.read_bytes()
        for private in (str(meshes.parent), str(meshes), "box_00", "torus_07"):
            assert private.encode() not in content, (file, private)
