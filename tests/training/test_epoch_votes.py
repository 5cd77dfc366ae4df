"""Votes that the published loops cast while they fine-tune."""

import json
import re

import pytest

from pointpeft.compat import names
from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.names import PublishedVotes, Thresholds
from pointpeft.measure.evaluate import evaluate_adapter
from tests.training.support import rows

SETTINGS = ("protocol=published", "votes=1", "method=full", "trainer.epochs=2")


def thresholds(monkeypatch, always, if_best):
    votes = PublishedVotes(1, Thresholds(always, if_best))
    monkeypatch.setitem(names._VOTES, "point_mae", votes)


def votes_cast(log, run):
    """Per cent by epoch, from 0, as the log has them."""
    found = re.findall(rf"{run.name}, epoch (\d+): ([\d.]+) % by voting", log.read_text())
    return {int(epoch) - 1: float(percent) for epoch, percent in found}


def test_the_epoch_of_the_best_vote_is_kept(run_finetune, tmp_path, monkeypatch):
    thresholds(monkeypatch, 2.0, -1.0)  # only epochs that are better than all before
    whole = run_finetune(*SETTINGS, "save_published=true", "seeds=2")
    run = tmp_path / "run" / whole["adapter_from"]
    metrics = json.loads((run / "metrics.json").read_text())
    accuracies = [float(row["test_accuracy"]) for row in rows(run)]
    better = [n for n in range(1, 3) if accuracies[n] > max([0.0, *accuracies[1:n]])]
    cast = votes_cast(tmp_path / "run" / "log.txt", run)
    assert list(cast) == better

    best = max(better, key=lambda epoch: cast[epoch])  # of equal ones the first
    assert metrics["training_vote_epoch"] == best + 1  # from 1
    assert 100 * metrics["training_vote_accuracy"] == pytest.approx(cast[best], abs=0.01)
    assert read_checkpoint(run / "ckpt-best_vote.pth").layout is not None
    adapter = tmp_path / "run" / "adapter_best_vote"
    kept = evaluate_adapter(adapter, metrics["data"], tmp_path / "kept")
    assert kept["test_accuracy"] == pytest.approx(accuracies[best])

    assert whole["best_training_vote_epoch"] == best + 1  # from 1
    each = whole["training_vote_accuracy_per_seed"]
    assert len(each) == 2
    assert whole["training_vote_accuracy"] == pytest.approx(sum(each) / 2)


def test_epochs_that_are_not_good_enough_are_not_voted_on(run_finetune, tmp_path, monkeypatch):
    thresholds(monkeypatch, 2.0, 2.0)
    assert "training_vote_epoch" not in run_finetune(*SETTINGS, "trainer.epochs=1")
    assert not votes_cast(tmp_path / "run" / "log.txt", tmp_path / "run")
