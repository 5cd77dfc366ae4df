"""The published commands do what they did, on the published layouts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.command.program import PROTOCOL_NOTE
from pointpeft.measure import analysis
from tests.cli.published import (
    IMAGES,
    ONE_SCALE,
    SCALES,
    TINY,
    run,
    write_pretrained,
    write_tuned,
)
from tests.data.conftest import SHARED

LAYOUTS = SHARED / "layouts"


@pytest.fixture(autouse=True)
def plain_maps(monkeypatch):
    """Reports without t-SNE, which would take most of the time."""
    monkeypatch.setattr(analysis, "project", lambda features, seed=0: (features[:, :2], "PCA"))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder to work in, with the published data sets below ``data``."""
    if not LAYOUTS.is_dir():
        pytest.skip(f"published layouts are not at {LAYOUTS}")
    (tmp_path / "data").symlink_to(LAYOUTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pretrained(workplace):
    """What the published commands call ``./ckpts/pre-train.pth``."""
    write_pretrained(workplace / "ckpts/pre-train.pth")
    return "./ckpts/pre-train.pth"


def metrics(*folders):
    return json.loads(("experiments" / Path(*folders) / "metrics.json").read_text())


def succeeded(result):
    assert result.code == 0, result.err
    assert result.out.startswith(PROTOCOL_NOTE)
    return True


# The commands of the published documentation, made short ------------------------------------------


def test_pretraining_of_i2p_mae(workplace):
    result = run("pre-training/i2p-mae.yaml", "--exp_name", "pre-train", *SCALES, *IMAGES,
                 "svm.num_points=64")  # fmt: skip
    assert succeeded(result)
    assert "max_epoch: 2" in result.out
    assert "for 2 epochs" in result.out
    folder = workplace / "experiments/i2p-mae/pre-training/pre-train"
    assert (folder / "backbone.safetensors").is_file()
    assert PROTOCOL_NOTE in (folder / "log.txt").read_text().splitlines()[0]
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["protocol"] == "published"
    assert settings["seed"] == 1
    assert settings["pretraining"]["reference_compat"] is True
    assert settings["optimizer"]["cosine_epochs"] == 400


@pytest.mark.parametrize(
    ("config", "data", "C"),
    [("modelnet40", "modelnet40", 0.0093), ("scan_obj-bg", "scan", 0.018)],
)
def test_linear_svm_of_i2p_mae(config, data, C, pretrained):
    result = run(
        f"linear-svm/{config}.yaml", "--test_svm", data, "--exp_name", "test_svm", "--ckpts",
        pretrained, *SCALES,
    )  # fmt: skip
    assert succeeded(result)
    assert "max_epoch=1" in result.out
    measured = metrics(config, "linear-svm/test_svm")
    assert measured["C"] == C
    assert measured["weights"].endswith("pre-train.pth")
    assert measured["protocol"] == "published"
    folder = Path("experiments") / config / "linear-svm/test_svm"
    assert yaml.safe_load((folder / "config.yaml").read_text())["C"] == C
    assert "published protocol" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("config", ["modelnet40", "scan_pb", "scan_obj", "scan_obj-bg"])
def test_fine_tuning_of_i2p_mae(config, pretrained):
    result = run(
        f"fine-tuning/{config}.yaml", "--finetune_model", "--exp_name", "finetune", "--ckpts",
        pretrained, *SCALES,
    )  # fmt: skip
    assert succeeded(result)
    measured = metrics(config, "fine-tuning/finetune")
    assert measured["method"] == "full"
    assert len(measured["class_names"]) == (40 if config == "modelnet40" else 15)


def test_pretraining_and_fine_tuning_of_pcp_mae(workplace):
    """The head has its own rate, and the file is known for what it is."""
    assert succeeded(
        run("pre-training/pcp-mae.yaml", *ONE_SCALE, "model.ita=0.2", "model.pred_loss=cos")
    )
    folder = workplace / "experiments/pcp-mae/pre-training/default"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["pretraining"] == {"centers": 0.2, "center_loss": "cosine"}
    assert (settings["data"]["train_split"], settings["data"]["augmentation"]) == (
        "whole", "scale-shift-rotate",
    )  # fmt: skip
    file = folder / "ckpt-last.pth"
    assert succeeded(
        run("fine-tuning/pcp-mae_scan_pb.yaml", "--finetune_model", "--ckpts", file, *ONE_SCALE)
    )
    folder = workplace / "experiments/pcp-mae_scan_pb/fine-tuning/default"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert (settings["optimizer"]["lr"], settings["optimizer"]["head_lr_factor"]) == (2e-5, 10.0)
    assert read_checkpoint(folder / "ckpt-best.pth").title.startswith("PCP-MAE, fine-tuned")


def test_heads_of_pcp_mae_on_its_frozen_encoder(workplace):
    config = "fine-tuning/pcp-mae-linear_scan_pb.yaml"
    assert succeeded(run(config, "--scratch_model", *ONE_SCALE))
    folder = workplace / "experiments/pcp-mae-linear_scan_pb/fine-tuning/default"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["peft"] == {"head": "linear", "class_token": True, "reference_compat": True}
    state = read_checkpoint(folder / "ckpt-best.pth").state
    assert [name for name in state if name.startswith("head.")] == ["head.0.weight", "head.0.bias"]


@pytest.mark.parametrize(
    ("backbone", "data"),
    [("point-bert", "scan_pb"), ("point-mae", "scan_pb_aug"), ("point-m2ae", "modelnet40")],
)
def test_point_peft(backbone, data, workplace):
    result = run(
        f"peft/{backbone}_{data}.yaml", "--cache_prompt", "--exp_name", "peft", *TINY[backbone],
        "--propagate_cof", "0.2", "--center_cof", "0.3", "--ad_cof", "0.7",
    )  # fmt: skip
    assert succeeded(result)
    assert "random weights" in result.err
    folder = workplace / f"experiments/{backbone}_{data}/peft/peft"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["method"] == "point-peft"
    read = {"propagation_coefficient": 0.2, "center_coefficient": 0.3}
    assert (folder / "ckpt-last.pth").is_file() == (backbone != "point-bert")
    assert settings["peft"] == {
        "reference_compat": True, **(read if backbone == "point-m2ae" else {}),
    }  # fmt: skip


def test_the_way_of_the_published_documentation(workplace):
    """Pre-training writes the checkpoint that is copied to where fine-tuning looks for it."""
    assert succeeded(run("pre-training/point-m2ae.yaml", *SCALES, "svm.num_points=64"))
    folder = workplace / "experiments/point-m2ae/pre-training/default"
    assert (folder / "ckpt-best.pth").is_file()
    (workplace / "ckpts").mkdir()
    shutil.copy(folder / "ckpt-last.pth", workplace / "ckpts/pre-train.pth")
    tuned = run("fine-tuning/point-m2ae_scan_pb.yaml", "--finetune_model", "--ckpts",
                "./ckpts/pre-train.pth", *SCALES)  # fmt: skip
    assert succeeded(tuned)
    folder = workplace / "experiments/point-m2ae_scan_pb/fine-tuning/default"
    for name in ("ckpt-best.pth", "ckpt-last.pth"):
        content = torch.load(folder / name, weights_only=True)
        assert "module.cls_head_finetune.0.weight" in content["base_model"]
    tested = run("fine-tuning/point-m2ae_scan_pb.yaml", "--test", "--ckpts",
                 folder / "ckpt-best.pth", *SCALES)  # fmt: skip
    assert succeeded(tested)
    measured = metrics("point-m2ae_scan_pb/fine-tuning/test_default")["test_accuracy"]
    assert measured == json.loads((folder / "metrics.json").read_text())["test_accuracy"]


def test_few_shot(workplace):
    for folds in ([0], [0, 1]):
        result = run(
            "few-shot/point-mae.yaml", "--scratch_model", "--exp_name", "few", "--way", 5,
            "--shot", 10, "--fold", folds[-1], *ONE_SCALE,
        )  # fmt: skip
        assert succeeded(result)
        measured = metrics("point-mae/few-shot/few")
        assert (measured["way"], measured["shot"], measured["folds"]) == (5, 10, folds)


def test_part_segmentation(workplace):
    result = run("part-segmentation/point-mae.yaml", "--scratch_model", "backbone.depth=3",
                 *ONE_SCALE[:-1])  # fmt: skip
    assert succeeded(result)
    assert "test_instance_iou" in metrics("point-mae/part-segmentation/default")


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ("point-bert-dvae", (*ONE_SCALE[:-2], "model.num_tokens=12", "model.encoder_dims=16",
                             "model.tokens_dims=10", "model.decoder_dims=16")),
        ("point-bert", (*TINY["point-bert"], "model.K=64", "model.dvae_config.num_tokens=12",
                        "model.transformer_config.cls_dim=10")),
        ("point-mae", (*ONE_SCALE, "model.transformer_config.decoder_depth=1")),
        ("point-m2ae", (*SCALES, "svm.num_points=64")),
    ],
)  # fmt: skip
def test_pretraining_of_the_others(config, sizes, workplace):
    assert succeeded(run(f"pre-training/{config}.yaml", "--num_workers", 0, *sizes))
    assert (workplace / f"experiments/{config}/pre-training/default/metrics.json").is_file()


# Testing, resuming --------------------------------------------------------------------------------


def test_a_run_is_resumed_and_tested_with_votes(workplace):
    config = "fine-tuning/point-mae_scan_obj.yaml"
    assert succeeded(run(config, "--scratch_model", *ONE_SCALE))
    again = run(config, "--scratch_model", *ONE_SCALE)
    assert again.code == 1
    assert "--exp_name" in again.text
    resumed = run(config, "--scratch_model", "--resume", "max_epoch=2")
    assert succeeded(resumed)
    folder = workplace / "experiments/point-mae_scan_obj/fine-tuning"
    assert (folder / "default/metrics.csv").read_text().count("\n") == 1 + 3
    tested = run(config, "--test", "--vote", "--ckpts", folder / "default", "votes=2")
    assert succeeded(tested)
    assert "best of 2 votes" in tested.out
    measured = metrics("point-mae_scan_obj/fine-tuning/test_default")
    assert len(measured["test_vote_accuracies"]) == 2
    same = json.loads((folder / "default/metrics.json").read_text())["test_accuracy"]
    assert measured["test_accuracy"] == same


def test_a_published_file_is_tested(workplace):
    write_tuned(workplace / "ckpt-best.pth")
    config = "fine-tuning/point-mae_scan_obj.yaml"
    tested = run(config, "--test", "--ckpts", "ckpt-best.pth", "--seed", 3, *ONE_SCALE)
    assert succeeded(tested)
    assert "trainer.epochs=1" in tested.out
    measured = metrics("point-mae_scan_obj/fine-tuning/test_default")
    assert 0 <= measured["test_accuracy"] <= 1
    assert (measured["protocol"], measured["seed"]) == ("published", 3)
    settings = Path("experiments/point-mae_scan_obj/fine-tuning/test_default/config.yaml")
    assert yaml.safe_load(settings.read_text())["variant"] == "scanobjectnn_obj_only"
    config = "part-segmentation/point-mae.yaml"
    refused = run(config, "--test", "--ckpts", "ckpt-best.pth", *ONE_SCALE)
    assert refused.code == 1
    assert "for part_segmentation" in refused.text
