"""Voting as in the published code, while it fine-tunes and afterwards."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch import nn

from pointpeft.compat.checkpoints.checkpoint_writer import save_pth
from pointpeft.compat.names import Thresholds
from pointpeft.data import ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.measure.voting import PASSES, vote, vote_accuracy, vote_seed
from pointpeft.peft.bank import eval_mode
from pointpeft.tasks.tuning_module import TuningModule
from pointpeft.training.processes import on_first_process
from pointpeft.training.run_folder import RunFolder

__all__ = ["EpochVotes", "best_of_votes"]


def best_of_votes(
    model: nn.Module,
    split: ShapeSplit,
    num_points: int,
    votes: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Accuracy of the best of ``votes`` votes of ten passes, with those of all of them.

    It is the best on the clouds that it is reported for. So the published code does; the accuracy
    is above what new clouds will show. Arguments are those of
    :func:`pointpeft.measure.voting.vote_once`.
    """
    points, view = torch.from_numpy(split.points), recipe("scale-shift", num_points)
    accuracies = []
    for place in range(votes):
        logits = vote(model, points, view, seed=vote_seed(seed, place))
        accuracies.append(vote_accuracy(logits, split.labels))
        if progress is not None:
            progress(place + 1, votes)
    return {
        "vote_accuracy": max(accuracies),
        "vote_rule": f"best of {votes} votes of {PASSES} passes, chosen on the measured split",
        "vote_accuracies": accuracies,
    }


log = logging.getLogger("pointpeft")

PUBLISHED_BEST_VOTE = "ckpt-best_vote.pth"
"""Name of the file that the published repositories keep the epoch of the best vote in."""


class EpochVotes(L.Callback):
    """Casts a vote of ten passes after good epochs, and keeps the weights of the best vote.

    The epoch is so chosen by votes on the clouds that they are reported for. The first of several
    processes votes.

    Args:
        thresholds: which epochs are voted on.
        split: labelled clouds in farthest-point order, those that epochs are selected on.
        num_points: points that the model sees.
        run: where the weights of the best vote are kept.
        seed: of the views.
        first_epoch: the first one that is looked at.

    Attributes:
        best: accuracy of the best vote, 0 to 1; None before the first one.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        split: ShapeSplit,
        num_points: int,
        run: RunFolder,
        seed: int = 0,
        first_epoch: int = 0,
    ) -> None:
        self.thresholds = thresholds
        self.points, self.labels = torch.from_numpy(split.points), split.labels
        self.view = recipe("scale-shift", num_points)
        self.run, self.seed, self.first_epoch = run, seed, first_epoch
        self.best: float | None = None
        self.best_accuracy = 0.0  # of an epoch, without voting

    def state_dict(self) -> dict[str, Any]:
        """The best values so far."""
        return {"best": self.best, "best_accuracy": self.best_accuracy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Those of the interrupted run."""
        self.best, self.best_accuracy = state["best"], state["best_accuracy"]

    def on_train_epoch_end(self, trainer: L.Trainer, task: TuningModule) -> None:  # type: ignore[override]
        """Vote, if the epoch is good enough, and keep its weights, if no vote was better."""
        if trainer.current_epoch >= self.first_epoch:
            on_first_process(trainer, lambda: self._look(trainer, task))

    def _look(self, trainer: L.Trainer, task: TuningModule) -> None:
        epoch = trainer.current_epoch
        accuracy = float(trainer.callback_metrics[f"{task.split}_accuracy"])
        best_so_far = accuracy > self.best_accuracy
        self.best_accuracy = max(accuracy, self.best_accuracy)
        needed = self.thresholds.if_best if best_so_far else self.thresholds.always
        if accuracy > needed:
            self._vote(task, epoch)

    def _vote(self, task: TuningModule, epoch: int) -> None:
        with eval_mode(task.model):
            logits = vote(task.model, self.points, self.view, seed=vote_seed(self.seed, epoch))
        voted = vote_accuracy(logits, self.labels)
        log.info("%s, epoch %d: %.2f %% by voting", self.run.path.name, epoch + 1, 100 * voted)
        if self.best is None or voted > self.best:
            self.best = voted
            task.keep(self.run.best_vote, epoch)

    def conclude(self, task: TuningModule, published: bool) -> dict[str, Any]:
        """Save the adapter of the best vote, if there was one, and say so in the metrics.

        Args:
            task: what was trained; it has the weights of the best vote afterwards.
            published: whether to write the file of the published repositories too.
        """
        if self.best is None:
            return {}
        epoch = task.load_best(self.run.best_vote)
        task.model.save_pretrained(self.run.best_vote_adapter)
        if published:
            file = self.run.path / PUBLISHED_BEST_VOTE
            save_pth(task.model, file, epoch, {"test_accuracy": self.best})
        return {"training_vote_accuracy": self.best, "training_vote_epoch": epoch + 1}
