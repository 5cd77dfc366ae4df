"""Adapters and weights on the hub, ``hf://owner/name``, by every verb that takes some."""

import json
import shutil

import pytest
import yaml

import pointpeft as pp
from tests.cli.conftest import run
from tests.training.support import TINY, TINY_BACKBONE


@pytest.fixture
def adapter(hub, trained):
    """Address of the adapter of a run."""
    pp.push_to_hub(trained, "me/prompts")
    return "hf://me/prompts"


@pytest.fixture
def trunk(hub, weights):
    """Address of the encoder that it was trained on."""
    backbone = pp.create_model("point_mae_small", checkpoint=weights, **TINY_BACKBONE)
    pp.push_to_hub(backbone, "me/trunk")
    return "hf://me/trunk"


def test_predict(adapter, trunk, trained, meshes):
    file = meshes / "box/box_00.off"
    given = ["--adapter", adapter, "--checkpoint", trunk]
    found = run("predict", *given, "--json", file)
    assert found.code == 0, found.err
    assert found.out == run("predict", "--adapter", trained, "--json", file).out


def test_predict_into_shards(adapter, trunk, meshes, tmp_path):
    given = ["--adapter", adapter, "--checkpoint", trunk, "--workers", 0]
    found = run("predict", *given, "--output", tmp_path / "rows", meshes / "box")
    assert found.code == 0, found.err


def test_evaluate(adapter, trunk, meshes, tmp_path):
    given = ["--adapter", adapter, "--checkpoint", trunk, "--data", meshes]
    found = run("evaluate", *given, "--output", tmp_path / "out")
    assert found.code == 0, found.err
    assert json.loads((tmp_path / "out/metrics.json").read_text())["adapter"] == adapter


def test_embed_and_search(adapter, trunk, meshes, tmp_path):
    given = ["--adapter", adapter, "--checkpoint", trunk]
    index = tmp_path / "features.npz"
    found = run("embed", *given, "--output", index, meshes / "box")
    assert found.code == 0, found.err
    found = run("search", *given, "--index", index, "--json", meshes / "box/box_00.off")
    assert found.code == 0, found.err


@pytest.mark.slow
def test_export(adapter, trunk, tmp_path):
    given = ["--output"]
    found = run("export", adapter, "--checkpoint", trunk, *given, tmp_path / "adapted.onnx")
    assert found.code == 0, found.err
    found = run("export", trunk, *given, tmp_path / "trunk.onnx")
    assert found.code == 0, found.err
    found = run("export", trunk, "--checkpoint", trunk, *given, tmp_path / "twice.onnx")
    assert found.code == 1
    assert "--checkpoint" in found.err


def test_serve(adapter, trunk, monkeypatch):
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: sockets[0].close())
    found = run("serve", adapter, "--checkpoint", trunk, "--port", 0)
    assert found.code == 0, found.err
    assert "prompts" in found.out


def test_finetune_and_the_adapter_finds_its_weights_again(trunk, archive, meshes, tmp_path):
    given = ["--data", archive, "--checkpoint", trunk, "--method", "linear", "--epochs", 1]
    found = run("finetune", *given, "--output", tmp_path / "run", *TINY)
    assert found.code == 0, found.err
    pp.push_to_hub(tmp_path / "run", "me/linear")
    found = run("predict", "--adapter", "hf://me/linear", meshes / "box/box_00.off")
    assert found.code == 0, found.err


@pytest.mark.slow
def test_compare(hub, trunk, archive, tmp_path, monkeypatch):
    """Its runs are processes of their own, which have the hub's library as it is: offline."""
    stored = tmp_path / "cache/models--me--trunk"
    shutil.copytree(hub / "me/trunk", stored / "snapshots/0123")
    (stored / "refs").mkdir()
    (stored / "refs/main").write_text("0123")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = ["--data", archive, "--checkpoint", trunk, "--method", "linear", "--lr-factor", 1]
    found = run("compare", *given, "--epochs", 1, "--output", tmp_path / "grid", *TINY)
    assert found.code == 0, found.err


def test_svm(trunk, archive, tmp_path):
    sizes = [each for each in TINY if each.startswith(("backbone.", "data."))]
    given = ["--data", archive, "--checkpoint", trunk, "--C", 1]
    found = run("svm", *given, "--output", tmp_path / "svm", *sizes)
    assert found.code == 0, found.err


def test_pretrain(trunk, archive, tmp_path):
    given = ["--data", archive, "--checkpoint", trunk, "--epochs", 1, "--output", tmp_path / "run"]
    found = run("pretrain", *given, *TINY, "pretraining.decoder_depth=1")
    assert found.code == 0, found.err
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["checkpoint"] == trunk


def test_visualize(hub, weights, meshes, tmp_path):
    whole = pp.create_model("point_mae_small", task="pretraining", **TINY_BACKBONE)
    pp.push_to_hub(whole, "me/whole")
    found = run(
        "visualize", meshes / "box/box_00.off", "--checkpoint", "hf://me/whole",
        "--output", tmp_path / "page.html",
    )  # fmt: skip
    assert found.code == 0, found.err


@pytest.mark.parametrize("verb", ["finetune", "svm", "compare", "pretrain"])
def test_weights_that_are_not_there_are_named_before_anything_is_read(hub, verb, archive, tmp_path):
    given = ["--data", archive, "--checkpoint", "hf://me/none", "--output", tmp_path / "run"]
    found = run(verb, *given)
    assert found.code == 1
    assert "hf://me/none" in found.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["predict", "evaluate", "serve", "embed", "export"])
def test_an_adapter_that_is_not_there_is_named(hub, verb, meshes, tmp_path):
    output = ["--output", tmp_path / "out.npz"]
    given = {
        "predict": ["--adapter", "hf://me/none", meshes / "box"],
        "evaluate": ["--adapter", "hf://me/none", "--data", meshes, *output],
        "serve": ["hf://me/none"],
        "embed": ["--adapter", "hf://me/none", *output, meshes / "box"],
        "export": ["hf://me/none", "--output", tmp_path / "out.onnx"],
    }
    found = run(verb, *given[verb])
    assert found.code == 1
    assert "hf://me/none" in found.err
