"""Few-shot episodes: published or drawn, run together or one by one, always the same ones."""

import json
import logging

import numpy as np
import pytest
import yaml

from pointpeft.data.benchmarks import read_episode
from pointpeft.data.cache import geometry_digest, pack_digests
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure import analysis
from pointpeft.training import finetune
from pointpeft.training.inputs import load_data
from tests.training.test_protocol import root  # noqa: F401 - a shared fixture

DRAWN = ["few_shot.way=2", "few_shot.shot=4", "few_shot.queries=2", "trainer.epochs=1"]


@pytest.fixture(autouse=True)
def plain_maps(monkeypatch):
    """Reports without t-SNE, which would take most of the time."""
    monkeypatch.setattr(analysis, "project", lambda features, seed=0: (features[:, :2], "PCA"))


@pytest.mark.parametrize("protocol", ["honest", "published"])
def test_published_episodes_are_run_one_by_one(
    protocol,
    run_finetune,
    root,  # noqa: F811
    tmp_path,
    caplog,
):
    settings = [f"data.source={root}", "few_shot.way=2", "few_shot.shot=3", "few_shot.folds=2"]
    settings += [f"protocol={protocol}", "trainer.epochs=1"]
    with caplog.at_level(logging.INFO, "pointpeft"):
        metrics = run_finetune(*settings)
    for said in ("fold 1, 2 of 2: ", "linear fold 1 seed 0: trains"):
        assert caplog.text.count(said) == 1
    values = metrics["test_accuracy_per_fold"]
    assert metrics["folds"] == [0, 1]
    assert metrics["test_accuracy"] == pytest.approx(np.mean(values))
    assert metrics["test_accuracy_std"] == pytest.approx(np.std(values))
    assert (tmp_path / "run" / "fold1" / "adapter").is_dir()
    measured = json.loads((tmp_path / "run/fold1/metrics.json").read_text())
    assert measured["data_title"] == "ModelNet40 few-shot"
    said = json.loads((tmp_path / "run/fold1/adapter/adapter_config.json").read_text())["input"]
    assert said["family"] == "modelnet40"
    assert said["source"] is not None
    episode = read_episode(root, 2, 3, 1)
    for part in ("train", "test"):
        expected = pack_digests(map(geometry_digest, getattr(episode, part).points))
        assert said["split"]["shapes"][part] == expected
    assert run_finetune(*settings, resume=True) == metrics
    with pytest.raises(DataError, match=r"2\.pkl"):
        run_finetune(*settings, "few_shot.folds=3", name="other")
    assert not (tmp_path / "other/fold0").exists()


def test_folds_run_one_after_another_are_summed_up(run_finetune, tmp_path):
    folder = tmp_path / "run"
    first = run_finetune(*DRAWN, "few_shot.fold=1")
    assert first["folds"] == [1]
    both = run_finetune(*DRAWN, "few_shot.fold=0", "trainer.devices=1")
    assert both["folds"] == [0, 1]
    assert both["test_accuracy_per_fold"][1] == first["test_accuracy"]
    assert json.loads((folder / "metrics.json").read_text()) == both
    assert run_finetune(*DRAWN, "few_shot.folds=2", resume=True) == both
    assert yaml.safe_load((folder / "config.yaml").read_text())["few_shot"]["folds"] == 2
    fold = yaml.safe_load((folder / "fold0/config.yaml").read_text())["few_shot"]
    assert fold == {"way": 2, "shot": 4, "queries": 2, "folds": 1, "fold": 0}
    assert "command:" in (folder / "log.txt").read_text()


def test_other_episodes_need_another_folder(run_finetune, tmp_path):
    run_finetune(*DRAWN, "few_shot.fold=0")
    before = (tmp_path / "run/metrics.json").read_text()
    with pytest.raises(ConfigError, match="`resume`"):
        run_finetune(*DRAWN, "few_shot.fold=0")
    for other, fold, resume in (
        ("few_shot.shot=3", 0, True),
        ("few_shot.way=3", 1, True),
        ("few_shot.queries=1", 1, False),
    ):
        with pytest.raises(ConfigError, match=other.partition("=")[0]):
            run_finetune(*DRAWN, f"few_shot.fold={fold}", other, resume=resume)
    with pytest.raises(ConfigError, match="single run"):
        run_finetune(*DRAWN, "few_shot.fold=0", name="run/fold0", resume=True)
    assert (tmp_path / "run/metrics.json").read_text() == before


def test_episodes_are_drawn_from_given_data(finetune_config, tmp_path):
    config = finetune_config(*DRAWN, "few_shot.fold=0")
    data = load_data(config.data, 64)
    named = finetune(config, tmp_path / "named")
    config.data.source = "elsewhere"
    given = finetune(config, tmp_path / "given", data=data)
    assert given["test_accuracy"] == named["test_accuracy"]


def test_what_is_no_episode_is_refused(run_finetune, tmp_path):
    with pytest.raises(DataError, match=r"\b40\b"):
        run_finetune("few_shot.way=2", "few_shot.shot=40")
    with pytest.raises(ConfigError, match=r"few_shot\.fold.*few_shot\.way"):
        run_finetune("few_shot.fold=0")
    with pytest.raises(ConfigError, match=r"few_shot\.way"):
        run_finetune("task=part_segmentation", "few_shot.way=2")
    assert not (tmp_path / "run/config.yaml").exists()
