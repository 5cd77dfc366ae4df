"""``pointpeft compare`` runs a grid, prints its tables, and says what failed."""

import json

import pytest

from pointpeft.training import cells, parallel
from tests.cli.conftest import run
from tests.training.comparing import run_here
from tests.training.support import TINY


@pytest.fixture
def compare(archive, weights, tmp_path, monkeypatch):
    """Runs ``compare`` with further arguments, its cells in this process."""
    monkeypatch.setattr(parallel, "run_in_processes", run_here)

    def command(*arguments):
        return run(
            "compare", "--checkpoint", weights, "--epochs", 1, "--output", tmp_path / "out",
            *(() if "--data" in arguments else ("--data", archive)), *TINY, *arguments,
        )  # fmt: skip

    return command


@pytest.mark.parametrize("given", ["method=svm", "seeds=3", "data.source=a", "checkpoint=a"])
def test_what_is_compared_is_no_setting(compare, tmp_path, given):
    result = compare("--method", "knn", given)
    assert result.code == 1
    assert given.partition("=")[0] in result.err
    assert not (tmp_path / "out").exists()


def test_tables_and_files(compare, tmp_path):
    given = ("--method", "svm,C=1", "--method", "knn", "--shots", 1, "--shots", "all")
    result = compare(*given)
    assert result.code == 0, result.err
    assert "1 training shape of each class" in result.out
    assert "all training shapes" in result.out
    assert result.out.count("svm,C=1 ") >= 2
    assert f"page: {tmp_path / 'out/compare.html'}" in result.out
    rows = json.loads((tmp_path / "out/results.json").read_text())["rows"]
    assert len(rows) == 4
    again = compare(*given)
    assert again.code == 1
    assert "--resume" in again.err
    assert compare(*given, "--resume").code == 0


def test_a_cell_can_be_predicted_with(compare, meshes, tmp_path):
    assert compare("--method", "knn").code == 0
    (folder,) = (tmp_path / "out").glob("*/*/knn/all/seed0")
    assert run("predict", "--adapter", folder, meshes / "box").code == 0


def test_failures_are_told_and_end_with_an_error_code(compare, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(cells, "finetune", broken)
    result = compare("--method", "knn")
    assert result.code == 1
    assert "out of luck" in result.err
    assert "--resume" in result.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--method", "linaer"), "linear"),
        (("--shots", "few"), "--shots"),
        (("--lr-factor", "0"), "--lr-factor"),
        (("--data", "none"), "none"),
        (("--task", "part_segmentation"), "'seg'"),
        (("--jobs", "0"), "--jobs"),
        (("--engine", "slurm"), "--engine"),
    ],
)
def test_what_cannot_be_had_is_named(compare, arguments, named, tmp_path):
    result = compare(*arguments)
    assert (result.code, named in result.text) == (1, True), result.text
    assert "Traceback" not in result.text
    assert not (tmp_path / "out").exists()


def test_several_models_need_weights_of_their_own(compare):
    models = ("--model", "point_mae_small", "--model", "point_bert_small")
    result = compare("--method", "knn", *models)
    assert result.code == 1
    assert "--checkpoint" in result.text
