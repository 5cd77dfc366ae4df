"""Wherever the encoder's weights are asked for, the folder of its pre-training serves too."""

import pytest

import pointpeft as pp
from pointpeft.errors import CheckpointError
from pointpeft.tasks.runs import resolve_checkpoint


def test_a_file_means_itself(weights, tmp_path):
    assert resolve_checkpoint(weights) == weights
    assert resolve_checkpoint(str(weights)) == weights
    missing = tmp_path / "missing.pth"  # said by who reads it, with what would be right
    assert resolve_checkpoint(missing) == missing


def test_a_pretraining_run_means_its_encoder(run_pretrain, tmp_path):
    run_pretrain("trainer.epochs=1")
    path = resolve_checkpoint(tmp_path / "pretrain")
    assert path == tmp_path / "pretrain/backbone.safetensors"
    model = pp.create_model("point_mae_small", num_classes=3, checkpoint=path)
    assert model.backbone.spec.name == "point_mae_small"


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no backbone\.safetensors.*pretrain") as error:
        resolve_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)
