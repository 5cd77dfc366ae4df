"""Training and measuring leave a report, also when they were stopped just before it."""

import json

import numpy as np
import pytest
import yaml

from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.measure.report import read_run
from pointpeft.training import finetune
from tests.training.conftest import (  # noqa: F401 - shared fixtures
    archive,
    finetune_config,
    light_runs,
    weights,
)
from tests.training.support import CLASSES, adapter_bytes, write_archive


@pytest.fixture(scope="module")
def trained(finetune_config, tmp_path_factory):  # noqa: F811
    """The folder of a run with two seeds, and its settings."""
    folder, config = tmp_path_factory.mktemp("trained") / "run", finetune_config("seeds=2")
    finetune(config, folder)
    return folder, config


def test_one_report_tells_of_all_seeds_and_analyses_the_best(trained):
    folder, _ = trained
    assert [page.parent for page in folder.rglob("report.html")] == [folder]
    run = read_run(folder)
    assert list(run.histories) == ["seed 0", "seed 1"]
    assert run.analysis["confusion"] == run.metrics["best_confusion"]
    assert run.analysis["part"] == "test"
    assert run.analysis["map"]["shown"] == 40
    wrong = run.metrics["test_items"] - np.trace(run.metrics["best_confusion"])
    assert run.analysis["mistakes"]["total"] == wrong


def test_finished_run_without_its_report_gets_it(trained):
    folder, config = trained
    page, analysis = folder / "report.html", json.loads((folder / "analysis.json").read_text())
    adapter, metrics = adapter_bytes(folder), (folder / "metrics.json").read_bytes()
    page.unlink()
    (folder / "analysis.json").unlink()
    finetune(config, folder, resume=True)
    assert page.is_file()
    assert json.loads((folder / "analysis.json").read_text()) == analysis
    assert (adapter_bytes(folder), (folder / "metrics.json").read_bytes()) == (adapter, metrics)


def test_run_without_test_split_shows_the_validation_split(finetune_config, tmp_path):  # noqa: F811
    data = write_archive(tmp_path / "shapes.npz", {"train": 6, "val": 2})
    given = [f"data.source={data}", "data.val_fraction=0", "trainer.epochs=1"]
    finetune(finetune_config(*given), tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.analysis["part"], run.analysis["items"]) == ("validation", 2 * len(CLASSES))


def test_measuring_shows_training_shapes_only_of_the_data_trained_on(
    trained,
    archive,  # noqa: F811
    tmp_path,
):
    parts = {"train": 7, "val": 2, "test": 2}
    other = write_archive(tmp_path / "other.npz", parts, wrong_test_labels=True)
    arrays = dict(np.load(other))
    np.savez(other, **arrays | {"points": 1.1 * arrays["points"]})
    for source, neighbours in ((archive, 3), (other, 0)):
        output = tmp_path / source.stem
        evaluate_adapter(trained[0], str(source), output)
        run = read_run(output)
        assert (output / "report.html").is_file()
        assert run.analysis["confusion"] == run.metrics["confusion"]
        assert run.histories == {}
        assert yaml.safe_load(run.config)["data"] == str(source)
        assert run.metrics["protocol"] == "honest"
        assert "measured by the honest protocol" in (output / "log.txt").read_text()
        for item in run.analysis["mistakes"]["listed"]:
            assert len(item["neighbours"]) == neighbours
    assert run.analysis["mistakes"]["total"] > 0
