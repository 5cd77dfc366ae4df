"""What the published flags mean, which exclude each other, and which have no effect."""

from itertools import takewhile

import pytest
from lightning.pytorch.utilities import rank_zero_only

from pointpeft.compat.command.flags import Command, command_of, parse
from pointpeft.compat.command.program import _notes, main
from pointpeft.compat.command.translation import flag_settings, unheeded_keys
from pointpeft.errors import ConfigError
from pointpeft.training import FinetuneConfig, PretrainConfig
from tests.cli.published import CONFIGS, SCALES, run

FLAGS = """
config exp_name ckpts finetune_model scratch_model test test_svm vote resume start_ckpts seed
deterministic val_freq num_workers launcher sync_bn local_rank way shot fold cache_prompt
propagate_cof center_cof ad_cof if_maxmean
"""
THERE = ("--ckpts", __file__, "data.source=homeobjects")
"""Weights and data that are not missed before they are read."""


def refused(result, *words):
    assert result.code == 1, result.text
    assert result.err.count("error:") == 1
    assert "Traceback" not in result.text
    for word in words:
        assert word in result.text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--resume --start_ckpts a.pth", ["--resume", "--start_ckpts"]),
        ("--test", ["test", "--ckpts"]),
        ("--test_svm scan", ["linear SVM", "--ckpts"]),
        ("--test --resume --ckpts a", ["--resume", "test"]),
        ("--ckpts a.pth", ["--ckpts", "--start_ckpts"]),
        ("--finetune_model --start_ckpts a.pth", ["--start_ckpts", "fine-tuning"]),
        ("--finetune_model --scratch_model", ["--scratch_model", "--finetune_model"]),
        ("--scratch_model --ckpts a.pth", ["--scratch_model", "--ckpts"]),
        ("--test --ckpts a --cache_prompt", ["test and fine-tuning"]),
        ("--finetune_model --way 5", ["--way", "--shot"]),
        ("--way 5 --shot 10", ["--way", "--finetune_model"]),
        ("--vote", ["--vote"]),
        ("--finetune_model --if_maxmean", ["--if_maxmean"]),
        ("--finetune_model max_epok=1", ["max_epok", "'max_epoch' (published)"]),
        ("", ["--finetune_model"]),
    ],
)
def test_flags_that_exclude_each_other(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run("fine-tuning/modelnet40.yaml", *flags.split()), *words)
    assert not list(tmp_path.iterdir())


def test_a_config_of_other_data_than_the_svm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("linear-svm/modelnet40.yaml", "--test_svm", "scan", "--ckpts", "a.pth")
    refused(result, "data.variant=modelnet40_h5", "ScanObjectNN")


def test_missing_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run("fine-tuning/modelnet4.yaml", "--finetune_model"), "modelnet4.yaml")
    refused(
        run("fine-tuning/scan_pb.yaml", "--finetune_model", *SCALES),
        "training_objectdataset_augmentedrot_scale75.h5",
    )
    refused(run("pre-training/point-mae.yaml", "--resume"), "resume")
    gone = run("fine-tuning/scan_pb.yaml", "--finetune_model", *THERE, "--ckpts", "gone.pth")
    refused(gone, "gone.pth")
    tested = run("fine-tuning/scan_pb.yaml", "--test", *THERE, "--ckpts", tmp_path)
    refused(tested, "adapter", str(tmp_path))
    unknown = run("fine-tuning/scan_pb.yaml", "--finetune_model", *THERE, "method=point-pft")
    refused(unknown, "'point-peft'")
    assert not list(tmp_path.iterdir())


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in FLAGS.split():
        assert f"--{flag}" in text
    assert "honest by default" in " ".join(text.split())
    for key in ("max_epoch", "dataset.val.others.subset", "trainer.epochs", "svm.source"):
        assert key in text


def test_the_documentation_lists_every_flag_and_config():
    text = (CONFIGS.parent / "docs/published.md").read_text()
    for flag in FLAGS.split():
        assert f"--{flag}" in text
    own = {*CONFIGS.glob("pre-training/*_small.yaml")}
    for file in {*CONFIGS.rglob("[!_]*.yaml")} - own:
        section = text.partition(f"### cfgs/{file.parent.name}\n")[2].partition("\n###")[0]
        rows = [line.strip("| ").split(" | ") for line in section.splitlines()]
        (told,) = [row[1] for row in rows if row[0] == f"`{file.stem}`"]
        said = list(takewhile(lambda line: line.startswith("# "), file.read_text().splitlines()))
        assert told.startswith(said[0].removeprefix("# "))
        assert " ".join(line.removeprefix("# ") for line in said).startswith(told)


def given(*flags, model="point_mae"):
    """What flags mean, for fine-tuning unless they say otherwise."""
    what = [] if "--test" in flags else ["--cache_prompt"]
    parsed = parse(["--config", "c.yaml", *what, *flags])
    settings, _ = flag_settings(command_of(parsed), parsed, FinetuneConfig(model=model))
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


def without_effect(*flags, config=FinetuneConfig):
    """Flags and keys that have no effect."""
    parsed = parse(["--config", "c.yaml", *flags])
    _, ignored = flag_settings(command_of(parsed), parsed, config())
    return {*ignored, *(unheeded_keys(parsed, parsed.overrides) if parsed.test else ())}


def test_what_has_no_effect_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    everything = ("--num_workers", "0", "--deterministic", "--save-published-format", "--launcher",
                  "pytorch", "--sync_bn", "--propagate_cof", "0.1", "--center_cof", "0.1",
                  "--ad_cof", "0.1", "--val_freq", "5")  # fmt: skip
    flags = {flag for flag in everything if flag.startswith("--")}
    for command in ("--test", "--test_svm=scan"):
        assert without_effect(command, "--ckpts", "a.pth", *everything) == flags
    assert "--val_freq" in without_effect("--cache_prompt", *everything)
    assert "--num_workers" not in without_effect("--cache_prompt", *everything)
    assert without_effect("--val_freq", "5", config=PretrainConfig) == {"--val_freq"}


def test_the_epoch_that_published_loops_have_more_is_told():
    said = _notes(Command.PRETRAIN, PretrainConfig(protocol="published"), [])
    assert "max_epoch: 301" in said[1]
    parts = FinetuneConfig(task="part_segmentation", protocol="published")
    assert len(_notes(Command.FINETUNE, parts, [])) == 1
    assert not _notes(Command.FINETUNE, FinetuneConfig(), [])
    assert len(_notes(Command.TEST, FinetuneConfig(protocol="published"), [])) == 1


def test_keys_that_a_test_does_not_heed_are_named(tmp_path):
    given = ["optimizer.lr=1", "data.num_points=64", "backbone.depth=2", "votes=3"]
    given.append("trainer.batch_size=4")
    assert without_effect("--test", "--ckpts", str(tmp_path), *given) == set(given[:3])
    assert without_effect("--test", "--ckpts", "a.pth", *given) == set(given[:1])
    assert not without_effect("--finetune_model", *given)


@pytest.mark.parametrize("command", ["fine-tuning --test", "linear-svm --test_svm=scan"])
def test_only_the_first_of_several_processes_measures(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    folder, what = command.split()
    result = run(f"{folder}/scan_obj-bg.yaml", what, *THERE)
    assert (result.code, result.text) == (0, "")
    assert not list(tmp_path.iterdir())


def test_errors_name_the_flags_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments/scan_obj-bg/linear-svm").mkdir(parents=True)
    (tmp_path / "experiments/scan_obj-bg/linear-svm/default").write_text("")
    result = run("linear-svm/scan_obj-bg.yaml", "--test_svm", "scan", *THERE)
    refused(result, "--exp_name experiments/scan_obj-bg/linear-svm/default is a file")


@pytest.mark.parametrize(
    ("model", "votes"),
    [("point_bert", "9"), ("point_mae", "299"), ("pcp_mae", "51"), ("i2p_mae", "49")],
)
def test_votes_are_as_many_as_published(model, votes):
    assert given("--vote", model=model) == {"votes": votes}


def test_coefficients_are_read_where_published_code_reads_them():
    flags = ("--cache_prompt", "--propagate_cof", "0.1", "--center_cof", "0.4", "--ad_cof", "0.5",
             "--if_maxmean")  # fmt: skip
    assert given(*flags) == {}
    assert len(without_effect(*flags)) == 4
    assert given(*flags, model="point_m2ae") == {
        "peft.propagation_coefficient": "0.1", "peft.center_coefficient": "0.4",
        "peft.group_pooling": "mean+max",
    }  # fmt: skip
    several = lambda: FinetuneConfig(model="point_m2ae")  # noqa: E731
    assert without_effect(*flags, config=several) == {"--ad_cof"}


def test_a_published_file_is_tested_with_the_coefficients_that_are_given(tmp_path):
    flags = ("--test", "--ckpts", "a.pth", "--propagate_cof", "0.1", "--if_maxmean")
    assert given(*flags, model="point_m2ae") == {
        "peft.propagation_coefficient": "0.1", "peft.group_pooling": "mean+max",
    }  # fmt: skip
    assert not without_effect(*flags, config=lambda: FinetuneConfig(model="point_m2ae"))
    of_a_run = (*flags[:2], str(tmp_path), *flags[3:])
    assert given(*of_a_run, model="point_m2ae") == {}
    of_model = lambda: FinetuneConfig(model="point_m2ae")  # noqa: E731
    assert len(without_effect(*of_a_run, config=of_model)) == 2


def test_the_launcher_reads_what_torchrun_says(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        given("--launcher", "pytorch")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert given("--launcher", "pytorch", "--local-rank", "0") == {
        "trainer.devices": "2", "trainer.num_nodes": "2", "trainer.strategy": "ddp",
    }  # fmt: skip
