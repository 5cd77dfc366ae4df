"""What the verbs say beside an accuracy: how sure it is, and which classes it leaves out."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pointpeft.measure.scores import wilson_interval
from pointpeft.tasks.shown import basis, interval
from tests.cli.conftest import run
from tests.training.support import CLASSES, write_archive, write_meshes

ALONE = "torus"
"""The class that the test split below has no shape of."""


@pytest.fixture
def uneven(tmp_path):
    """A data set with stated splits, three of whose four classes are tested."""
    source = write_archive(tmp_path / "uneven.npz", {"train": 5, "test": 3})
    with np.load(source) as file:
        content = dict(file)
    without = (content["label"] == CLASSES.index(ALONE)) & (content["split"] == "test")
    np.savez(source, **{k: v if k == "names" else v[~without] for k, v in content.items()})
    return source


def headline(metrics):
    """What must stand beside the accuracy of nine shapes."""
    assert metrics["unmeasured_classes"] == [ALONE]
    assert metrics["class_items"] == [3, 3, 3, 0]
    bounds = wilson_interval(metrics["test_accuracy"], 9)
    assert metrics["test_accuracy_interval"] == pytest.approx(bounds)
    return f"({interval(bounds)}; 9 shapes, 3 of 4 classes; not measured: {ALONE})"


def test_finetune_says_how_sure_it_is_and_what_is_not_measured(uneven, settings, tmp_path):
    result = run("finetune", "--data", uneven, "--output", tmp_path / "run", *settings)
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert f" % {headline(metrics)}" in result.out


def test_of_several_seeds_the_interval_is_that_of_the_mean(uneven, settings, tmp_path):
    result = run(
        "finetune", "--data", uneven, "--output", tmp_path / "run", "--seeds", 2, *settings
    )
    assert result.code == 0, result.err
    assert headline(json.loads((tmp_path / "run/metrics.json").read_text())) in result.out


def test_svm_says_it_too(uneven, weights, tmp_path):
    result = run(
        "svm", "--data", uneven, "--checkpoint", weights, "--output", tmp_path / "svm", "--C", 1,
        "data.num_points=64",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert headline(json.loads((tmp_path / "svm/metrics.json").read_text())) in result.out


def test_evaluate_names_classes_without_shapes(trained, tmp_path):
    names = dict.fromkeys(CLASSES[:2], 3)
    data = write_meshes(tmp_path / "new", names)
    result = run("evaluate", "--adapter", trained, "--data", data, "--output", tmp_path / "out",
                 "--split", "all")  # fmt: skip
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["unmeasured_classes"] == list(CLASSES[2:])
    assert f"({basis(metrics, 'all')})" in result.out
    assert "6 shapes, 2 of 4 classes; not measured: sphere, torus" in result.out
    assert metrics["all_accuracy_interval"] == pytest.approx(
        wilson_interval(metrics["all_accuracy"], 6)
    )


def test_one_episode_has_an_interval_and_no_spread(archive, settings, tmp_path):
    few = ["few_shot.way=2", "few_shot.shot=2", "few_shot.queries=2"]
    output = tmp_path / "few"
    one = run("finetune", "--data", archive, "--output", output, *settings, *few,
              "few_shot.fold=0")  # fmt: skip
    assert one.code == 0, one.err
    metrics = json.loads((output / "metrics.json").read_text())
    assert f"in 1 fold ({interval(metrics['test_accuracy_interval'])}; 4 shapes)" in one.text
    assert "+-" not in one.text.split("accuracy:")[-1]
    two = run("finetune", "--data", archive, "--output", output, *settings, *few,
              "few_shot.fold=1")  # fmt: skip
    assert two.code == 0, two.err
    assert "+-" in two.text
    assert "test_accuracy_interval" not in json.loads((output / "metrics.json").read_text())


@pytest.mark.slow
def test_names_that_the_terminal_cannot_print_end_no_verb(settings, tmp_path):
    names = ("椅子", "🪑 [bold]")
    data = tmp_path / "data"
    shapes = write_meshes(tmp_path / "plain", dict.fromkeys(CLASSES[:2], 6))
    data.mkdir()
    for plain, name in zip(CLASSES, names, strict=False):
        (shapes / plain).rename(data / name)
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "COLUMNS": "300"}

    def command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "pointpeft", *map(str, arguments)], capture_output=True,
            encoding="cp1252", env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    tell = ["--data", data, "--output"]
    assert run("finetune", *tell, tmp_path / "run", *settings).code == 0
    adapter = ["--adapter", tmp_path / "run"]
    assert r"\u6905\u5b50" in command("evaluate", *adapter, *tell, tmp_path / "out")
    if sys.platform == "linux":  # other systems have no such file names
        odd = os.fsencode(data / names[0]) + b"/\xff.off"
        shutil.copy(next((data / names[0]).iterdir()), odd)
    assert r"\u6905\u5b50" in command("predict", data / names[0], *adapter)


def test_a_class_name_is_not_read_as_markup():
    metrics = {"class_names": ["a", "[red]"], "unmeasured_classes": ["[red]"], "test_items": 2}
    assert basis(metrics) == r"2 shapes, 1 of 2 classes; not measured: \[red]"
