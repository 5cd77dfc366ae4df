"""``pointpeft data``: show, check and convert."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import run
from tests.data.benchmarks import layouts
from tests.training.support import CLASSES


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
