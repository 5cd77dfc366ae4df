"""Adapters and backbones on the hub of Hugging Face."""

from pathlib import Path

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from tests.models.tiny import SIZES, clouds
from tests.peft.support import adapted, encoder


@pytest.fixture
def points():
    return clouds(3)


def test_an_adapter_goes_there_and_back(hub, points):
    model = adapted(pp.BitFitConfig()).eval()
    assert pp.push_to_hub(model, "me/bits") == "https://example.org/me/bits"
    assert (hub / "me/bits/README.md").read_text().startswith("---")
    loaded = pp.load_adapter(encoder(), "hf://me/bits")
    assert torch.equal(loaded(points), model(points))


def test_a_run_or_adapter_folder_is_uploaded(hub, points, tmp_path):
    model = adapted(pp.LinearConfig()).eval()
    model.save_pretrained(tmp_path / "run/adapter")
    pp.push_to_hub(tmp_path / "run", "me/run")
    assert torch.equal(pp.load_adapter(encoder(), "hf://me/run")(points), model(points))


def test_a_backbone_goes_there_and_back(hub, points):
    trunk = encoder()
    pp.push_to_hub(trunk, "me/trunk")
    loaded = pp.create_model("point_mae", checkpoint="hf://me/trunk", **SIZES)
    assert torch.equal(loaded.eval()(points).tokens, trunk.eval()(points).tokens)


def test_what_is_not_there_is_named(hub, tmp_path):
    with pytest.raises(CheckpointError, match="me/none"):
        pp.load_adapter(encoder(), "hf://me/none")
    with pytest.raises(CheckpointError, match=Path(tmp_path).name):
        pp.push_to_hub(tmp_path, "me/none")


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="huggingface_hub"):
        pp.load_adapter(encoder(), "hf://me/bits")


def test_what_is_no_model_of_ours_is_refused(hub):
    with pytest.raises(ConfigError, match="`what`"):
        pp.push_to_hub(torch.nn.Linear(2, 2), "me/other")
    assert not hub.exists()
