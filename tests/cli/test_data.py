"""``pointpeft data``: show, check and convert."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import run
from tests.data.benchmarks import layouts
from tests.training.support import CLASSES, TINY


@pytest.mark.parametrize("verb", [[], ["show"]])
def test_show_is_what_data_does_without_a_verb(verb, meshes):
    result = run("data", *verb, meshes)
    assert result.code == 0, result.err
    for name in CLASSES:
        assert re.search(rf"│ {name} +│ 5 +│ 1 +│ 2 +│", result.out), result.out


def test_options_need_no_verb_either(meshes, tmp_path):
    assert run("data", "--export", tmp_path / "a", meshes).code == 0
    assert run("data", meshes, "--up-axis", "z", "--export", tmp_path / "b").code == 0
    assert len(list((tmp_path / "b").rglob("*.xyz"))) == 32


def test_help_lists_the_verbs():
    result = run("data", "--help")
    assert result.code == 0
    for verb in ("show", "check", "convert"):
        assert re.search(rf"│ {verb} +\w+", result.out), result.out
        assert run("data", verb, "--help").code == 0


def test_show_names_the_variants(tmp_path):
    layouts.write_scanobjectnn(tmp_path)
    refused = run("data", tmp_path)
    assert refused.code == 1
    assert "--variant" in refused.err
    assert "scanobjectnn_obj_only" in refused.err
    shown = run("data", tmp_path, "--variant", "obj_only")
    assert shown.code == 0, shown.err
    assert re.search(r"│ bin +│", shown.out)


def test_check_compares_with_the_published_numbers(tmp_path):
    layouts.write_scanobjectnn(tmp_path)
    result = run("data", "check", tmp_path, "--variant", "pb_t50_rs")
    assert result.code == 1
    assert re.search(r"│ bag +│ 3 +│ 2 +│", result.out), result.out
    assert re.search(r"│ released +│ 11416 +│ 2882 +│", result.out)
    assert "11,416" in result.err


def test_check_of_complete_data_succeeds(tmp_path):
    for fold in range(10):
        layouts.write_episode(tmp_path, fold=fold, queries=20)
    result = run("data", "check", tmp_path)
    assert result.code == 0, result.text
    assert "3way_4shot" in result.out
    assert "nothing is missing" in result.out


def test_check_of_another_folder_is_refused(tmp_path):
    result = run("data", "check", tmp_path)
    assert result.code == 1
    assert "no benchmark data set" in result.err
    assert "Traceback" not in result.text


def test_convert_writes_what_training_reads(tmp_path):
    layouts.write_modelnet(tmp_path / "data")
    result = run("data", "convert", tmp_path / "data", tmp_path / "set.npz")
    assert result.code == 0, result.err
    assert f"wrote 15 shapes to {tmp_path / 'set.npz'}" in result.out
    with np.load(tmp_path / "set.npz") as arrays:
        assert arrays["points"].shape == (15, 20, 3)
    assert run("data", tmp_path / "set.npz").code == 0


def test_paths_of_home_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    layouts.write_shapenet(Path(tmp_path))
    assert run("data", "convert", "~", "~/set.npz").code == 0
    assert (tmp_path / "set.npz").is_file()


def test_shards_are_written_shown_and_checked(meshes, tmp_path):
    (tmp_path / "set/chair").mkdir(parents=True)
    (tmp_path / "set/chair/bad.obj").write_text("nothing")
    (tmp_path / "set/box").symlink_to(meshes / "box")
    output = tmp_path / "shards"
    command = ["data", "shard", tmp_path / "set", "--output", output, "--points", 64]
    written = run(*command, "--shard-size", 5)
    assert written.code == 0, written.err
    assert "8 shapes of 64 points in 2 shards" in written.out
    assert "chair/bad.obj" in written.err
    assert "8 shapes" in run("data", output).out
    assert run("data", "check", output).code == 0
    again = run(*command)
    assert again.code == 1
    assert "--resume" in again.err
    other = run(*command, "--resume", "--seed", 1, "--shard-size", 5)
    assert other.code == 1
    assert "seed" in other.err
    assert run(*command, "--resume", "--shard-size", 5).code == 0
    refused = run("data", "shard", "procedural", "--output", tmp_path / "made")
    assert refused.code == 1
    assert "--shapes" in refused.err
    file = next(output.glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    damaged = run("data", "check", output)
    assert damaged.code == 1
    assert file.name in damaged.err


def test_pretraining_takes_shards(meshes, tmp_path):
    assert run("data", "shard", meshes, "--output", tmp_path / "shards", "--points", 64).code == 0
    result = run(
        "pretrain", "--data", tmp_path / "shards", "--output", tmp_path / "run", "--epochs", 1,
        *TINY, "pretraining.decoder_depth=1",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "on 20 shapes" in result.out
    refused = run("finetune", "--data", tmp_path / "shards", "--output", tmp_path / "tuned")
    assert refused.code == 1
    assert "pre-training" in refused.err
