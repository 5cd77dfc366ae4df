"""Votes that the published loops cast while they fine-tune."""

import re

import pytest

from pointpeft.evaluation.evaluate import evaluate_adapter
from pointpeft.models import read_checkpoint
from pointpeft.tasks import epoch_votes
from pointpeft.tasks.epoch_votes import Threshold, votes_in_training
from tests.tasks.support import rows

SETTINGS = ("protocol=published", "votes=1", "method=full", "trainer.epochs=3")


def thresholds(monkeypatch, any_epoch, best_so_far):
    monkeypatch.setitem(epoch_votes._THRESHOLDS, "point_mae", Threshold(any_epoch, best_so_far))


def votes_cast(run):
    """Per cent by epoch, as the log has them."""
    found = re.findall(r"epoch (\d+): ([\d.]+) % by voting", (run / "log.txt").read_text())
    return {int(epoch): float(percent) for epoch, percent in found}


def test_the_epoch_of_the_best_vote_is_kept(run_finetune, tmp_path, monkeypatch):
    thresholds(monkeypatch, 2.0, -1.0)  # only epochs that are better than all before
    run, metrics = tmp_path / "run", run_finetune(*SETTINGS, "save_published=true")
    accuracies = [float(row["test_accuracy"]) for row in rows(run)]
    better = [n for n in range(1, 4) if accuracies[n] > max([0.0, *accuracies[1:n]])]
    cast = votes_cast(run)
    assert list(cast) == better

    best = max(better, key=lambda epoch: cast[epoch])  # of equal ones the first
    assert metrics["training_vote_epoch"] == best
    assert 100 * metrics["training_vote_accuracy"] == pytest.approx(cast[best], abs=0.01)
    assert read_checkpoint(run / "ckpt-best_vote.pth").published is not None
    kept = evaluate_adapter(run / "adapter_best_vote", metrics["data"], tmp_path / "kept")
    assert kept["test_accuracy"] == pytest.approx(accuracies[best])


def test_epochs_that_are_not_good_enough_are_not_voted_on(run_finetune, tmp_path, monkeypatch):
    thresholds(monkeypatch, 2.0, 2.0)
    assert "training_vote_epoch" not in run_finetune(*SETTINGS, "trainer.epochs=1")
    assert not votes_cast(tmp_path / "run")


def test_published_code_of_two_models_votes_in_training():
    assert votes_in_training("point_mae")
    assert votes_in_training("point_bert_small")
    assert not votes_in_training("point_m2ae")
