"""``pointpeft svm`` measures a backbone and leaves what it found in a folder."""

import json

import pytest

from tests.cli.conftest import run


@pytest.fixture
def svm(archive, weights, tmp_path):
    """Runs ``svm`` with further arguments; those given win."""

    def command(*arguments):
        given = ["--data", archive, "--checkpoint", weights, "--output", tmp_path / "svm"]
        return run("svm", *given, "--C", 1, "data.num_points=64", *arguments)

    return command


def test_metrics_are_written_and_named(svm, weights, tmp_path):
    result = svm()
    assert result.code == 0, result.err
    path = tmp_path / "svm/metrics.json"
    assert f"metrics: {path}" in result.out
    metrics = json.loads(path.read_text())
    assert f"test accuracy: {100 * metrics['test_accuracy']:.1f} %" in result.out
    assert metrics["weights"] == str(weights)
    assert (metrics["C"], metrics["C_from"]) == (1.0, "given")
    assert (metrics["train_items"], metrics["test_items"]) == (32, 8)
    confusion = metrics["confusion"]
    assert [sum(row) for row in confusion] == [2, 2, 2, 2]
    right = sum(confusion[label][label] for label in range(4))
    assert metrics["test_accuracy"] == right / 8
    assert metrics["versions"]["pointpeft"]


def test_a_measurement_is_not_written_over(svm, tmp_path):
    assert svm("--C", 1).code == 0
    again = svm("--C", 2)
    assert again.code == 1
    assert "--output" in again.err
    assert json.loads((tmp_path / "svm/metrics.json").read_text())["C"] == 1.0


def test_chosen_regularisation_is_noted(archive, tmp_path):
    result = run("svm", "--data", archive, "--output", tmp_path / "svm")
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "svm/metrics.json").read_text())
    assert metrics["C_from"] == "cross-validation on train"
    assert metrics["weights"] == "embedded"


def test_output_holds_a_training_run(svm, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("model: point_mae_small\n")
    result = svm("--output", tmp_path / "run")
    assert result.code == 1
    assert "--output" in result.err
    assert not (tmp_path / "run/metrics.json").exists()


def test_output_is_a_file(svm, tmp_path):
    (tmp_path / "taken").write_text("")
    result = svm("--output", tmp_path / "taken")
    assert result.code == 1
    assert "taken" in result.err
