"""What a run folder remembers; where encoder weights are asked for, it serves too."""

import json
from dataclasses import replace

import pytest

import pointpeft as pp
from pointpeft.errors import CheckpointError
from pointpeft.tasks import FinetuneConfig
from pointpeft.tasks.config import FewShotConfig
from pointpeft.tasks.runs import RunFolder, resolve_checkpoint


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


def test_a_run_is_finished_with_its_settings_on_whatever_hardware(tmp_path):
    run, config = RunFolder(tmp_path / "run"), FinetuneConfig()
    assert run.finished_metrics(config) is None
    run.begin(config)
    assert run.finished_metrics(config) is None
    run.metrics.write_text(json.dumps({"test_accuracy": 0.5}))
    moved = replace(config, trainer=replace(config.trainer, num_workers=4, accelerator="gpu"))
    assert run.finished_metrics(moved) == {"test_accuracy": 0.5}
    for other in (
        replace(config, seed=1),
        replace(config, trainer=replace(config.trainer, epochs=1)),
        replace(config, few_shot=FewShotConfig(way=5)),
    ):
        assert run.finished_metrics(other) is None
    run.begin(config)
    assert run.finished_metrics(config) is None
