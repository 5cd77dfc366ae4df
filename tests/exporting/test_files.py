"""Exported files give what their models give."""

import itertools
import json

import numpy as np
import onnxruntime
import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from tests.exporting.support import FITTED, POINTS, adapted, described
from tests.models.tiny import clouds, settle, tiny
from tests.peft.support import CONFIGS, point_peft

BACKBONES = ("point_mae", "point_bert", "point_m2ae", "i2p_mae", "pcp_mae")
TASKS = ("classification", "part_segmentation")
FEW = (
    ("point_mae", "lora", "classification", "onnx"),
    ("pcp_mae", "svm", "classification", "onnx"),
    ("point_bert", "full", "part_segmentation", "onnx"),
)
KINDS = [*itertools.product(TASKS, ("onnx", "torch"))]
# Every method on every backbone, and over the backbones in every kind.
EACH = [
    (backbone, method, *KINDS[(row + column) % len(KINDS)])
    for row, backbone in enumerate(BACKBONES)
    for column, method in enumerate([*CONFIGS, *FITTED])
]
ALL = [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in EACH if case not in FEW)]


@pytest.mark.parametrize(("backbone", "method", "task", "format"), ALL)
def test_a_file_gives_what_the_model_gives(backbone, method, task, format, tmp_path):
    try:
        model = adapted(backbone, method, task)
    except ConfigError as error:
        pytest.skip(f"no such model: {error}")
    file = tmp_path / f"model.{format}"
    if method.startswith("pointgst") and format == "onnx":
        with pytest.raises(ConfigError, match="pointgst"):
            pp.export(model, file)
        assert not file.exists()
        return
    assert pp.export(model, file, format=format).difference < 1e-4
    given = {"points": clouds(5, POINTS, seed=3)}
    if task == "part_segmentation":
        given["category"] = torch.zeros(5, dtype=torch.int64)
    with torch.no_grad():
        expected = model(**given)
    expected = expected.softmax(1) if task == "classification" else expected
    found = computed(file, format, given)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


def computed(file, format, given):
    """What the file gives, where this library is not needed."""
    if format == "torch":
        return torch.export.load(file).module()(*given.values()).detach().numpy()
    session = onnxruntime.InferenceSession(file)
    return session.run(None, {name: value.numpy() for name, value in given.items()})[0]


def test_a_file_says_what_it_needs_and_probabilities_are_calibrated(tmp_path):
    model = described(adapted("point_mae", "linear"), up_axis="z")
    file = tmp_path / "model.onnx"
    written = pp.export(model, file)
    session = onnxruntime.InferenceSession(file)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == ["a", "b", "c", "d"]
    assert json.loads(said["input"])["up_axis"] == "z"
    assert json.loads(said["base"])["hash"] == model.adapter.base_hash
    assert said["licence"] == written.properties["licence"]
    assert b"pointpeft/" not in file.read_bytes(), "names of files on this machine"
    points = clouds(1, POINTS)
    (found,) = session.run(None, {"points": points.numpy()})
    expected = (model(points) / 2).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "backbone", ["point_mae", pytest.param("point_m2ae", marks=pytest.mark.slow)]
)
def test_patches_may_come_from_outside(backbone, tmp_path):
    model = adapted(backbone, "linear")
    file = tmp_path / "model.onnx"
    pp.export(model, file, sampling="outside")
    session, points = onnxruntime.InferenceSession(file), clouds(2, POINTS)
    found = json.loads(session.get_modelmeta().custom_metadata_map["patches"])
    patches = [cut(cloud, found["num_groups"], found["group_size"]) for cloud in points.numpy()]
    neighborhoods, centers = (np.stack(each) for each in zip(*patches, strict=True))
    given = {"neighborhoods": neighborhoods, "centers": centers}
    (probabilities,) = session.run(None, given)
    expected = model(points).softmax(1).detach().numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def cut(points, num_groups, group_size):
    """The lines of docs/export.md."""
    chosen, nearest = [0], np.full(len(points), np.inf, np.float32)
    for _ in range(num_groups - 1):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    centers = points[chosen]
    distances = np.square(centers[:, None] - points).sum(2)
    members = distances.argsort(axis=1, kind="stable")[:, :group_size]
    return points[members] - centers[:, None], centers


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["inside", "outside"])
def test_a_bank_is_looked_up_in_the_graph(sampling, tmp_path):
    model = point_peft()
    model.trunk.spec.__dict__["num_points"] = POINTS
    written = pp.export(model.eval(), tmp_path / "model.onnx", sampling=sampling)
    assert written.difference < 1e-4


def cuts_again():
    model = point_peft()
    model.trunk.spec.__dict__["num_points"] = POINTS
    model.adapter.config.__dict__["query_grouping"] = {"num_groups": 4}
    return model.eval()


def looks_at_points():
    """A method of one's own that asks the cloud itself for its size."""
    model = adapted("point_mae", "dapt")
    tuner, logits = model.adapter.tuner, model.adapter.tuner.logits
    tuner.logits = lambda network, found, *rest: (
        logits(network, found, *rest) + found.points.amax(dim=(1, 2))[:, None]
    )
    return model


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(cuts_again, marks=pytest.mark.slow),
        looks_at_points,
        pytest.param(lambda: adapted("point_mae", "point-peft, published"), marks=pytest.mark.slow),
    ],
)
def test_who_looks_at_points_beside_patches_is_refused_patches_from_outside(make, tmp_path):
    model = make()
    with pytest.raises(ConfigError, match="`sampling`"):
        pp.export(model, tmp_path / "outside.onnx", sampling="outside")
    assert not list(tmp_path.iterdir())
    pp.export(model, tmp_path / "inside.onnx")


@pytest.mark.slow
def test_parts_may_come_as_points_and_patches(tmp_path):
    model = adapted("point_m2ae", "linear", "part_segmentation")
    written = pp.export(model, tmp_path / "model.onnx", sampling="outside")
    assert written.properties["inputs"] == ["points", "neighborhoods", "centers", "category"]
    assert written.difference < 1e-4


def test_what_onnx_has_no_operator_for_is_named(tmp_path, monkeypatch):
    model = adapted("point_mae", "dapt")
    logits = model.adapter.tuner.logits

    def spectral(network, found, *rest):
        covariance = found.points.mT @ found.points
        return logits(network, found, *rest) * torch.linalg.eigh(covariance).eigenvalues[:, :1]

    monkeypatch.setattr(model.adapter.tuner, "logits", spectral)
    with pytest.raises(ConfigError, match=r"method dapt.* eigenvectors.*`format`"):
        pp.export(model, tmp_path / "model.onnx")
    assert pp.export(model, tmp_path / "model.pt2", format="torch").difference < 1e-4


def test_an_encoder_gives_features_and_small_weights_cost_little(tmp_path, recwarn, capfd):
    encoder = settle(tiny("features", num_points=POINTS, dim=48)).eval()
    files = {p: tmp_path / f"{p}.onnx" for p in ("float32", "float16", "int8")}
    written = {p: pp.export(encoder, file, precision=p) for p, file in files.items()}
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    sizes = {p: each.num_bytes for p, each in written.items()}
    assert sizes["float16"] < 0.9 * sizes["float32"]
    assert written["float32"].difference < written["float16"].difference < 1e-2
    assert written["int8"].difference < 0.5
    points = clouds(2, POINTS)
    (found,) = onnxruntime.InferenceSession(files["float32"]).run(None, {"points": points.numpy()})
    expected = encoder.retrieval_features(points).detach()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dapt", "pointgst"])
def test_a_torch_file_needs_nothing_of_this_library(method, tmp_path, recwarn, capfd):
    model = adapted("point_mae", method)
    file = tmp_path / "model.pt2"
    assert pp.export(model, file, format="torch").difference < 1e-4
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    extra = {"pointpeft.json": ""}
    program = torch.export.load(file, extra_files=extra)
    assert json.loads(extra["pointpeft.json"])["method"] == method
    assert "pointpeft" not in program.graph_module.code
    assert b"pointpeft/models" not in file.read_bytes(), "names of files on this machine"
    points = clouds(4, POINTS)
    expected = model(points).softmax(1)
    torch.testing.assert_close(program.module()(points), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"format": "tflite"}, "format"),
        ({"sampling": "twice"}, "sampling"),
        ({"precision": "int4"}, "precision"),
        ({"format": "torch", "precision": "int8"}, "precision"),
        ({"format": "web"}, "runtime"),
        ({"runtime": "package"}, "runtime"),
        ({"checkpoint": "x.pth"}, "checkpoint"),
    ],
)
def test_other_settings_are_refused(settings, named, tmp_path):
    with pytest.raises(ConfigError, match=f"`{named}`"):
        pp.export("point_mae_small", tmp_path / "model.onnx", **settings)
    with pytest.raises(CheckpointError, match="no_such_run"):
        pp.export("no_such_run", tmp_path / "model.onnx")


def test_a_method_of_ones_own_that_looks_at_values_is_named(tmp_path, monkeypatch):
    model = adapted("point_mae", "dapt")

    def logits(network, found, context, *category):
        return network(found) if found.tokens.sum() > 0 else network(found) + 1

    monkeypatch.setattr(model.adapter.tuner, "logits", logits)
    with pytest.raises(ConfigError, match="method dapt"):
        pp.export(model, tmp_path / "model.onnx")


def test_a_file_takes_as_many_points_as_the_adapter_was_trained_on(tmp_path):
    model = described(adapted("point_mae", "linear"), num_points=POINTS // 2)
    written = pp.export(model, tmp_path / "model.onnx")
    assert written.properties["input"]["num_points"] == POINTS // 2
    points = clouds(2, POINTS // 2)
    (found,) = onnxruntime.InferenceSession(written.path).run(None, {"points": points.numpy()})
    with torch.no_grad():
        expected = (model(points) / model.adapter.temperature).softmax(dim=-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_model_is_left_as_it_is(tmp_path):
    encoder = tiny("features", num_points=POINTS).train()
    pp.export(encoder, tmp_path / "model.onnx")
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(
    "method", ["linear", "lora", pytest.param("point-peft", marks=pytest.mark.slow)]
)
def test_weights_are_in_a_torch_file_once(method, tmp_path):
    model, path = adapted("point_mae", method), tmp_path / "model.pt2"
    pp.export(model, path, format="torch")
    held = torch.export.load(path).state_dict.values()
    own = [*model.adapter.parameters(), *model.adapter.buffers()]
    assert sum(value.numel() for value in held) <= sum(value.numel() for value in own)


def test_a_tokenizer_has_no_feature_to_export(tmp_path):
    tokenizer = tiny("pretraining", "point_bert_dvae")
    with pytest.raises(ConfigError, match="point_bert_dvae is a tokenizer"):
        pp.export(tokenizer, tmp_path / "model.onnx")
