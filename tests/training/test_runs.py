"""What a run folder remembers; where encoder weights are asked for, it serves too."""

import json
import re
from dataclasses import replace

import pytest

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.locations import resolve_checkpoint
from pointpeft.training import FinetuneConfig
from pointpeft.training.config import FewShotConfig
from pointpeft.training.run_folder import RunFolder


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


def test_a_run_means_the_encoder_of_its_best_epoch_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO", logger="pointpeft")
    for name in ("backbone", "backbone_best"):
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(b"")
        assert resolve_checkpoint(tmp_path) == file
        assert file.name in caplog.text


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    (tmp_path / "backbone_best.safetensors").touch()  # of a run that has not ended
    with pytest.raises(CheckpointError, match=rf"{tmp_path}.* backbone\.safetensors"):
        resolve_checkpoint(tmp_path)


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


def test_settings_that_differ_are_listed_with_both_values(tmp_path):
    run = RunFolder(tmp_path)
    run.begin(FinetuneConfig(backbone={"depth": 3}, method="linear"))
    other = FinetuneConfig(backbone={"dim": 24}, method="linear", seed=2)
    other.trainer.batch_size, other.trainer.epochs = 8, 1
    with pytest.raises(ConfigError) as error:
        run.prepare(other, resume=True)
    said, *_ = str(error.value).splitlines()
    for key, was, given in (
        ("backbone.depth", "3", "not set"),
        ("backbone.dim", "not set", "24"),
        ("seed", "0", "2"),
        ("trainer.batch_size", "16", "8"),
    ):
        assert re.search(rf"\b{key} [^;]*\b{was}\b[^;]*\b{given}\b", said)
    assert "trainer.epochs" not in said


def test_what_ends_a_run_is_in_its_log_and_a_refused_one_leaves_no_folder(tmp_path):
    run = RunFolder(tmp_path / "new/run")

    def fail(error, after_an_epoch=False):
        run.begin(FinetuneConfig())
        if after_an_epoch:
            run.checkpoints.mkdir()
            run.last.touch()
        raise error

    with pytest.raises(DataError), run.logging():
        fail(DataError("no data"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError), run.logging():
        fail(DataError("no more data"), after_an_epoch=True)
    assert run.log.read_text().endswith("ERROR no more data\n")
    with pytest.raises(ZeroDivisionError), run.logging():
        fail(ZeroDivisionError())
    assert "Traceback" in run.log.read_text()
