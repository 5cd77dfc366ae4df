"""Faults of a run: they end it, or are left out and named, as its settings say."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from pointpeft.errors import DataError, TrainingError
from pointpeft.formats import enumerate_names

__all__ = ["Faults"]

log = logging.getLogger("pointpeft")

_MOST_IN_A_ROW = 10
"""Steps left out one after the other that end the run: it has diverged, no shape is to blame."""


class Faults(L.Callback):
    """Watches for losses, metrics and weights that are NaN or infinite, and for unreadable data.

    No step is taken with such a loss, and an epoch that ends with such weights is not saved, so
    that the last checkpoint stays good. A run that stops does so in all processes.

    Args:
        last: the checkpoint to go on from.
        goes_on: leave out a step whose loss is not finite, with its effect on what a forward pass
            changes (running statistics, and networks that follow the trained one), and a
            checkpoint that cannot be written. Ten such steps in a row, or all of an epoch, end the
            run all the same.
        skip_data: go on without what a batch says is ``"unreadable"``.
        names: of the items at the places ``"index"`` of a batch, for messages.
    """

    def __init__(
        self,
        last: Path,
        goes_on: bool = False,
        skip_data: bool = False,
        names: Callable[[Sequence[int]], Sequence[str]] | None = None,
    ) -> None:
        self.last, self.goes_on, self.skip_data, self.names = last, goes_on, skip_data, names
        self._batch: dict[str, Any] = {}
        self._untrained: dict[str, Tensor] = {}
        self._skips, self._in_a_row = False, 0
        self._said: set[str] = set()

    def on_train_batch_start(
        self,
        trainer: L.Trainer,
        task: L.LightningModule,
        batch: dict[str, Any],
        batch_index: int,
    ) -> None:
        """Look at the data, and remember what a step that is left out must not change."""
        self._batch = batch
        if "unreadable" in batch:
            problem = self._unreadable()
            if not self._agreed(trainer, not problem):
                raise DataError(problem or "another process cannot read its data, and says which")
        if self.goes_on:
            self._untrained = {name: each.clone() for name, each in _untrained(task).items()}

    def on_before_backward(self, trainer: L.Trainer, task: L.LightningModule, loss: Tensor) -> None:
        """Look at the loss before it is used."""
        problem = "" if loss.isfinite() else f"the loss is {loss.item()}{self._of_what()}"
        self._skips = not self._agreed(trainer, not problem)
        if not self._skips:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        most = min(_MOST_IN_A_ROW, int(trainer.num_training_batches))
        if not self.goes_on or self._in_a_row >= most:
            raise self._divergence(problem, trainer, trainer.global_step + 1)
        if problem:  # an error also where other processes are quiet
            log.error("step %d is left out: %s", trainer.global_step + 1, problem)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, task: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Without gradients nothing is changed: neither weights nor their moments and decay."""
        if self._skips:
            optimizer.zero_grad(set_to_none=True)
            for name, each in _untrained(task).items():
                each.copy_(self._untrained[name])

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Look at what was measured and at the weights before the epoch is saved."""
        self.check_weights(trainer, task)

    def check_weights(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Stop if a metric or a weight is not finite, so that it is not saved.

        Raises:
            TrainingError: one is not.
        """
        values = {**trainer.callback_metrics, **task.state_dict()}
        broken = [name for name, value in values.items() if not value.isfinite().all()]
        problem = f"{', '.join(broken[:3])} became NaN or infinite" if broken else ""
        if not self._agreed(trainer, not problem):
            raise self._divergence(problem, trainer, trainer.global_step)

    def _unreadable(self) -> str:
        """What of the batch could not be read, if the run is to stop; else it is logged once."""
        found = self._batch["unreadable"]
        if found and not (self.skip_data and self._batch["points"].isfinite().all()):
            remedy = (
                "nothing else is there" if self.skip_data else "data.on_error=skip leaves it out"
            )
            return f"{'; '.join(found)}; mend the shard and {self._go_on}: {remedy}"
        for text in found:
            if text not in self._said:
                self._said.add(text)
                log.error("left out: %s", text)
        return ""

    def _of_what(self) -> str:
        """The items of the batch by name; all of them in the log."""
        if self.names is None:
            return ""
        names = self.names(self._batch["index"].tolist())
        log.debug("a batch whose loss is not finite: %s", ", ".join(names))
        return f", of a batch of {enumerate_names(names)}"

    def _agreed(self, trainer: L.Trainer, good: bool) -> bool:
        """Whether it is good in all processes."""
        return trainer.strategy.reduce_boolean_decision(good, all=True)

    def _divergence(self, problem: str, trainer: L.Trainer, step: int) -> TrainingError:
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        skip, kept = "", ""
        if self.names is not None and not self.goes_on:
            skip = f"; to leave a single step out, {self._go_on} with on_fault=skip"
        if self.last.is_file():
            kept = f"; {self.last} keeps what was before"
        return TrainingError(
            f"training diverged in epoch {trainer.current_epoch + 1}, step {step} of the run: "
            f"{problem or 'another process has found a value that is not finite'}. The learning "
            f"rate in force is {rate:.3g}. Start again in another `output` with a lower "
            "optimizer.lr (try a tenth); if that does not help, use trainer.precision=32-true and "
            f"look for extreme coordinates in the data{kept}{skip}"
        )

    @property
    def _go_on(self) -> str:
        """What can be done in the folder of this run; without a checkpoint nothing of it stays."""
        return "--resume" if self.last.is_file() else "start again"


def _untrained(task: L.LightningModule) -> dict[str, Tensor]:
    """What only a forward pass may change: buffers, and parameters that have no gradient."""
    frozen = {name: each.data for name, each in task.named_parameters() if not each.requires_grad}
    return frozen | dict(task.named_buffers())
