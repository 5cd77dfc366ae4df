"""Measuring a network again and again while it is pre-trained, and keeping it at its best."""

import abc
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import lightning as L

from pointpeft.errors import TrainingError
from pointpeft.training.processes import on_first_process

__all__ = ["BestEpoch", "Keep"]

Keep = Callable[[Any, int, float], None]
"""Called with a model that is the best so far, the epochs it was trained for, and its value."""


class BestEpoch(L.Callback, abc.ABC):
    """Logs a value every so many epochs and has the best epoch kept.

    The first of several processes measures. An epoch without a measurement has no value in the
    history, not that of an earlier one.

    Args:
        every: epochs from one measurement to the next.
        keep: what is done with the best epoch; of equal ones the first counts.

    Attributes:
        metric: name of the value.
        label: what the progress line calls it.
        form: its format there.
        split: name of the split that is measured, "val" or "test".
        larger_is_better: whether the best value is the largest.
        best: the best value so far; None before the first one.
        best_epoch: the epoch that it was measured after, from 1.
    """

    metric: str
    label: ClassVar[str]
    form: ClassVar[str]
    split: str
    larger_is_better: ClassVar[bool] = True

    def __init__(self, every: int, keep: Keep) -> None:
        self.every, self.keep = every, keep
        self.best: float | None = None
        self.best_epoch: int | None = None

    @abc.abstractmethod
    def measure(self, model: Any) -> float:
        """The value of a pre-training model, which keeps its mode."""

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """That of the interrupted run."""
        self.best, self.best_epoch = state["best"], state.get("best_epoch")

    def on_train_epoch_start(self, trainer: L.Trainer, task: Any) -> None:
        """Forget the value of an earlier epoch, which the trainer would show again."""
        trainer.callback_metrics.pop(self.metric, None)

    def on_train_epoch_end(self, trainer: L.Trainer, task: Any) -> None:
        """Measure, log, and have the model kept if it is the best.

        Raises:
            TrainingError: the value is not finite.
        """
        epochs = trainer.current_epoch + 1
        if epochs % self.every:
            return
        value = on_first_process(trainer, lambda: self._measure(task.model, epochs))
        task.log(self.metric, value)
        if self._is_best(value):
            self.best, self.best_epoch = value, epochs

    def _measure(self, model: Any, epochs: int) -> float:
        value = self.measure(model)
        if not math.isfinite(value):
            raise TrainingError(f"{self.metric} is {value} after epoch {epochs}")
        if self._is_best(value):
            self.keep(model, epochs, value)
        return value

    def _is_best(self, value: float) -> bool:
        if self.best is None:
            return True
        return value > self.best if self.larger_is_better else value < self.best
