"""The votes that published code casts while it fine-tunes, and the epoch of the best one."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch

from pointpeft.data import ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.evaluation.voting import vote
from pointpeft.peft.bank import eval_mode
from pointpeft.peft.publishing import save_published
from pointpeft.tasks.runs import RunFolder
from pointpeft.tasks.tuning import TuningTask

__all__ = ["EpochVotes", "votes_in_training"]

log = logging.getLogger("pointpeft")

PUBLISHED_BEST_VOTE = "ckpt-best_vote.pth"
"""Name of the file that the published repositories keep the epoch of the best vote in."""


class Threshold(NamedTuple):
    """Test accuracies, 0 to 1, above which an epoch is voted on."""

    any: float
    best_so_far: float


_THRESHOLDS = {"point_mae": Threshold(0.921, 0.91), "point_bert": Threshold(0.915, 0.90)}


def votes_in_training(model: str) -> bool:
    """Whether published code of a model, by its name, votes while it trains."""
    return model.removesuffix("_small") in _THRESHOLDS


class EpochVotes(L.Callback):
    """Casts a vote of ten passes after good epochs, and keeps the weights of the best vote.

    The epoch is so chosen by votes on the clouds that they are reported for. The first of several
    processes votes.

    Args:
        model: name of the backbone; see :func:`votes_in_training`.
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
        model: str,
        split: ShapeSplit,
        num_points: int,
        run: RunFolder,
        seed: int = 0,
        first_epoch: int = 0,
    ) -> None:
        self.threshold = _THRESHOLDS[model.removesuffix("_small")]
        self.points, self.labels = torch.from_numpy(split.points), split.labels
        self.view = recipe("scale-shift", num_points)
        self.weights, self.seed, self.first_epoch = run.best_vote, seed, first_epoch
        self.best: float | None = None
        self.best_accuracy = 0.0  # of an epoch, without voting

    def state_dict(self) -> dict[str, Any]:
        """The best values so far."""
        return {"best": self.best, "best_accuracy": self.best_accuracy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Those of the interrupted run."""
        self.best, self.best_accuracy = state["best"], state["best_accuracy"]

    def on_train_epoch_end(self, trainer: L.Trainer, task: TuningTask) -> None:  # type: ignore[override]
        """Vote, if the epoch is good enough, and keep its weights, if no vote was better."""
        epoch = trainer.current_epoch
        if epoch < self.first_epoch or not trainer.is_global_zero:
            return
        accuracy = float(trainer.callback_metrics[f"{task.split}_accuracy"])
        best_so_far = accuracy > self.best_accuracy
        self.best_accuracy = max(accuracy, self.best_accuracy)
        needed = self.threshold.best_so_far if best_so_far else self.threshold.any
        if accuracy > needed:
            self._vote(task, epoch)

    def _vote(self, task: TuningTask, epoch: int) -> None:
        own = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0])
        with eval_mode(task.model):
            logits = vote(task.model, self.points, self.view, seed=own)
        voted = float((logits.argmax(1).numpy() == self.labels).mean())
        log.info("epoch %d: %.2f %% by voting", epoch, 100 * voted)
        if self.best is None or voted > self.best:
            self.best = voted
            task.keep(self.weights, epoch)

    def conclude(self, task: TuningTask, run: RunFolder, published: bool) -> dict[str, Any]:
        """Save the adapter of the best vote, if there was one, and say so in the metrics.

        Args:
            task: what was trained; it has the weights of the best vote afterwards.
            run: its folder.
            published: whether to write the file of the published repositories too.
        """
        if self.best is None:
            return {}
        epoch = task.load_best(self.weights)
        task.model.save_pretrained(run.best_vote_adapter)
        if published:
            save_published(
                task.model, run.path / PUBLISHED_BEST_VOTE, epoch, {"test_accuracy": self.best}
            )
        return {"training_vote_accuracy": self.best, "training_vote_epoch": epoch}
