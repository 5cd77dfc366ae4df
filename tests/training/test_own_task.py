"""A third task is one file and one line in the table."""

import json

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.serving.served_adapters import AdapterSet
from pointpeft.tasks.table import TASKS
from tests.cli.conftest import run
from tests.training.regression import Regression
from tests.training.support import TINY


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The one line."""
    monkeypatch.setitem(TASKS, "regression", Regression())


@pytest.fixture
def shapes(tmp_path):
    """Longer shapes have larger numbers."""
    rng = np.random.default_rng(0)
    label = np.arange(48) % 3
    points = (
        rng.normal(size=(48, 64, 3)) * np.stack([1 + 2 * label, *2 * [np.ones(48)]], 1)[:, None]
    )
    np.savez(tmp_path / "shapes.npz", points=points, label=label, names=["1", "2.5", "4"])
    return tmp_path / "shapes.npz"


def settings(source, weights, *more):
    given = [*TINY, f"data.source={source}", f"checkpoint={weights}", "task=regression", *more]
    return pp.load_config(pp.FinetuneConfig, overrides=given)


@pytest.mark.parametrize("method", ["full", "point-peft", "linear"])
def test_it_is_trained_measured_and_served(method, shapes, weights, tmp_path):
    config = settings(shapes, weights, f"method={method}", "trainer.epochs=12", "optimizer.lr=0.01")
    metrics = pp.finetune(config, tmp_path / "run")
    rows = [row.split(",") for row in (tmp_path / "run/metrics.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("train_loss")]) for row in rows[1:]]
    assert losses[-1] < losses[0]
    assert metrics["test_score"] == Regression()._score(
        pp.load_adapter(*loaded(tmp_path / "run", weights)), ["1", "2.5", "4"], data(shapes).test
    )
    measured = evaluate_adapter(tmp_path / "run", str(shapes), tmp_path / "measured")
    assert measured["test_score"] == pytest.approx(metrics["test_score"], abs=1e-6)
    assert measured["task"] == "regression"
    assert not (tmp_path / "measured/report.html").exists()


def loaded(folder, weights):
    return pp.create_model("point_mae_small", checkpoint=weights), folder


def data(source):
    transform = pp.InputTransform(64)
    return pp.load_shapes(source, transform, val_fraction=0.2, needed=("test", "val"))


def test_the_command_line_knows_it(shapes, weights, tmp_path):
    np.savetxt(tmp_path / "new.xyz", np.random.default_rng(1).normal(size=(80, 3)))
    common = [*TINY, "--data", shapes, "--checkpoint", weights, "--task", "regression"]
    done = run("finetune", *common, "--output", tmp_path / "run", "--method", "linear")
    assert done.code == 0, done.text
    assert "negative error" in done.text
    told = run("predict", "--adapter", tmp_path / "run", tmp_path / "new.xyz", "--json")
    assert told.code == 0, told.text
    assert np.isfinite(json.loads(told.out)[0]["number"])


def test_who_does_not_know_it_refuses_it_by_name(shapes, weights, tmp_path):
    pp.finetune(settings(shapes, weights, "method=linear"), tmp_path / "run")
    for use in (
        pp.Predictor,
        lambda folder: pp.export(folder, tmp_path / "file.onnx"),
        lambda folder: AdapterSet([folder]),
    ):
        with pytest.raises(ConfigError, match="regression"):
            use(tmp_path / "run")
    assert not (tmp_path / "file.onnx").exists()


def test_what_it_refuses_is_refused(shapes, weights, tmp_path):
    for wrong in (["votes=2"], ["few_shot.way=2"]):
        with pytest.raises(ConfigError, match=wrong[0].partition("=")[0]):
            pp.finetune(settings(shapes, weights, *wrong), tmp_path / "run")
    points = np.random.default_rng(0).normal(size=(12, 64, 3))
    np.savez(tmp_path / "named.npz", points=points, label=np.arange(12) % 2, names=["a", "b"])
    with pytest.raises(DataError, match="numbers"):
        pp.finetune(settings(tmp_path / "named.npz", weights), tmp_path / "run")
    with pytest.raises(ConfigError, match="task"):
        pp.finetune(pp.load_config(pp.FinetuneConfig, overrides=["task=regresion"]), tmp_path / "r")
