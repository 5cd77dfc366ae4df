"""The command that starts a service, before it answers."""

import socket

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError
from pointpeft.serving.adapters import AdapterSet
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.cli.conftest import run
from tests.training.parts import DEPTH
from tests.training.support import TINY, TINY_BACKBONE


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(runs):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("serve", runs / "linear", "--port", other.getsockname()[1])
    assert result.code == 1
    assert "--port" in result.err
    assert "http://" not in result.out


def test_an_adapter_of_another_backbone_is_told_apart(runs, archive, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "other.safetensors"
    pp.save_model(pp.create_model("point_mae_small", **(TINY_BACKBONE | {"depth": 3})), path)
    given = [*TINY, f"checkpoint={path}", f"data.source={archive}", "method=knn"]
    config = load_config(FinetuneConfig, [], [*given, DEPTH])
    finetune(config, tmp_path / "other")
    with pytest.raises(CheckpointError, match="linear"):
        AdapterSet([runs / "linear", tmp_path / "other"])
