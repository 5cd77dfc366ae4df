"""The published commands do what they did, on the published layouts."""

import json
from pathlib import Path

import pytest
import yaml

from pointpeft.cli.published import PROTOCOL_NOTE, main
from pointpeft.cli.published_flags import Command, parse
from pointpeft.cli.published_settings import flag_settings
from pointpeft.errors import ConfigError
from pointpeft.evaluation import analysis
from pointpeft.tasks import FinetuneConfig
from tests.cli.published import (
    CONFIGS,
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
FLAGS = """
config exp_name ckpts finetune_model scratch_model test test_svm vote resume start_ckpts seed
deterministic val_freq num_workers launcher sync_bn local_rank way shot fold cache_prompt
propagate_cof center_cof ad_cof if_maxmean
"""


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
    assert "max_epoch=1 (trainer.epochs) has no effect" in result.out
    measured = metrics(config, "linear-svm/test_svm")
    assert measured["C"] == C
    assert measured["weights"].endswith("pre-train.pth")


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
    assert settings["peft"] == {
        "reference_compat": True, "propagation_coefficient": 0.2, "center_coefficient": 0.3,
        "adapter_scale": 0.7,
    }  # fmt: skip


def test_few_shot(workplace):
    result = run(
        "few-shot/point-mae.yaml", "--scratch_model", "--exp_name", "few", "--way", 5, "--shot", 10,
        "--fold", 0, *ONE_SCALE,
    )  # fmt: skip
    assert succeeded(result)
    measured = metrics("point-mae/few-shot/few")
    assert (measured["way"], measured["shot"], measured["folds"]) == (5, 10, [0])


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
    assert "--resume goes on with it, another --exp_name" in again.text
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
    assert succeeded(run(config, "--test", "--ckpts", "ckpt-best.pth", *ONE_SCALE))
    assert 0 <= metrics("point-mae_scan_obj/fine-tuning/test_default")["test_accuracy"] <= 1
    config = "part-segmentation/point-mae.yaml"
    refused = run(config, "--test", "--ckpts", "ckpt-best.pth", *ONE_SCALE)
    assert refused.code == 1
    assert "a model for classification; the config asks for part_segmentation" in refused.text


# Refusals and flags -------------------------------------------------------------------------------


def refused(result, *words):
    assert result.code == 1, result.text
    assert result.err.count("error:") == 1
    assert "Traceback" not in result.text
    for word in words:
        assert word in result.text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--resume --start_ckpts a.pth", "--resume and --start_ckpts exclude each other"),
        ("--test", "test needs --ckpts"),
        ("--test_svm scan", "linear SVM needs --ckpts"),
        ("--test --resume --ckpts a", "nothing to resume in test"),
        ("--ckpts a.pth", "pre-training starts from --start_ckpts"),
        ("--finetune_model --start_ckpts a.pth", "fine-tuning starts from --ckpts"),
        ("--finetune_model --scratch_model", "--scratch_model and --finetune_model exclude"),
        ("--scratch_model --ckpts a.pth", "leave --ckpts out"),
        ("--test --ckpts a --cache_prompt", "ask for test and fine-tuning"),
        ("--finetune_model --way 5", "--way and --shot go together"),
        ("--way 5 --shot 10", "belong to --finetune_model"),
        ("--vote", "--vote belongs to"),
        ("--finetune_model --if_maxmean", "--if_maxmean belongs to --cache_prompt"),
        ("--finetune_model max_epok=1", "did you mean 'max_epoch' (published)"),
        ("", "config must be one of pre-training"),
    ],
)
def test_flags_that_exclude_each_other(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run("fine-tuning/modelnet40.yaml", *flags.split()), words)
    assert not list(tmp_path.iterdir())


def test_a_config_of_other_data_than_the_svm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("linear-svm/modelnet40.yaml", "--test_svm", "scan", "--ckpts", "a.pth")
    refused(result, "data.variant=modelnet40_h5", "config of ScanObjectNN")


def test_missing_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run("fine-tuning/modelnet4.yaml", "--finetune_model"), "modelnet4.yaml does not exist")
    refused(
        run("fine-tuning/scan_pb.yaml", "--finetune_model", *SCALES),
        "training_objectdataset_augmentedrot_scale75.h5",
        "<-- missing",
    )
    refused(run("pre-training/point-mae.yaml", "--resume"), "nothing to resume")


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in FLAGS.split():
        assert f"--{flag}" in text
    assert "honest by default" in " ".join(text.split())


def test_the_documentation_lists_every_flag_and_config():
    text = (CONFIGS.parent / "docs/published.md").read_text()
    for flag in FLAGS.split():
        assert f"--{flag}" in text
    for file in {*CONFIGS.rglob("*.yaml")} - {CONFIGS / "pre-training/point_mae_small.yaml"}:
        assert f"| `{file.stem}` |" in text
        number = file.read_text().splitlines()[0].rpartition(": ")[2]
        assert number in text


def given(*flags, model="point_mae"):
    """What flags mean for fine-tuning."""
    parsed = parse(["--config", "c.yaml", "--cache_prompt", *flags])
    settings = flag_settings(Command.FINETUNE, parsed, FinetuneConfig(model=model))
    return dict(item.split("=") for item in settings)


def test_flags_are_settings():
    assert given() == {}
    assert given("--seed", "3", "--num_workers", "2", "--deterministic") == {
        "seed": "3", "trainer.num_workers": "2", "trainer.deterministic": "True",
    }  # fmt: skip
    assert given("--way", "5", "--shot", "20", "--fold", "-1") == {
        "few_shot.way": "5", "few_shot.shot": "20",
    }  # fmt: skip
    assert given("--sync_bn") == {"trainer.sync_batchnorm": "True"}


@pytest.mark.parametrize(
    ("model", "votes"), [("point_bert", "9"), ("point_mae", "299"), ("i2p_mae", "49")]
)
def test_votes_are_as_many_as_published(model, votes):
    assert given("--vote", model=model) == {"votes": votes}


def test_pooling_by_mean_is_refused_where_it_would_matter():
    assert given("--if_maxmean") == {}
    with pytest.raises(ConfigError, match="--if_maxmean"):
        given("--if_maxmean", model="point_m2ae")


def test_the_launcher_reads_what_torchrun_says(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node=2"):
        given("--launcher", "pytorch")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert given("--launcher", "pytorch", "--local-rank", "0") == {
        "trainer.devices": "2", "trainer.num_nodes": "2", "trainer.strategy": "ddp",
    }  # fmt: skip
