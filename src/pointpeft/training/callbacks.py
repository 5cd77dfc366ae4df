"""What happens beside training: seeds, the mean loss, history, timing and progress."""

import csv
import json
import logging
import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from pointpeft.files import replacing
from pointpeft.measure.records import peak_memory_bytes
from pointpeft.progress import Meter

__all__ = [
    "EpochSeeds",
    "EpochTimer",
    "History",
    "MeanLoss",
    "Patience",
    "ProgressBar",
    "StepSeeds",
    "Throughput",
]

log = logging.getLogger("pointpeft")


class EpochSeeds(L.Callback):
    """Reseeds every generator at each epoch from the run's seed, the epoch and the rank.

    A resumed run therefore draws the same random numbers as one that was never interrupted.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Reseed."""
        _reseed(self.seed, trainer.current_epoch, trainer.global_rank)


class StepSeeds(L.Callback):
    """Reseeds every generator at each step, so that a run may go on in the middle of an epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, task: L.LightningModule, batch: object, batch_index: int
    ) -> None:
        """Reseed."""
        _reseed(self.seed, trainer.current_epoch, trainer.global_rank, batch_index)


def _reseed(*entropy: int) -> None:
    state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)  # noqa: NPY002
    torch.manual_seed(state)


class MeanLoss(L.Callback):
    """Logs the means of an epoch of the loss, ``train_loss``, and of its terms, ``loss_<name>``.

    So it does of an epoch that was interrupted. Losses that are not finite are left out: either
    they end the run or their step was not taken.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._count: Tensor | float = 0.0
        self._trainer: Any = None

    def setup(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        """Remember the trainer, which knows the other processes."""
        self._trainer = trainer

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Begin anew."""
        self._sums, self._count = {}, 0.0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        task: L.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_index: int,
    ) -> None:
        """Add the losses of a batch."""
        loss, size = outputs["loss"].detach(), len(batch["points"])
        terms = {f"loss_{name}": term for name, term in outputs["terms"].items()}
        for name, value in {"train_loss": loss, **terms}.items():
            counted = torch.where(loss.isfinite(), value.double() * size, 0.0)
            self._sums[name] = self._sums.get(name, 0.0) + counted
        self._count = self._count + loss.isfinite() * size

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Log the means over all processes."""
        sums, count = self._of_all()
        for name, total in sums.items():
            task.log(name, torch.tensor(total / count))

    def state_dict(self) -> dict[str, Any]:
        """What all processes have seen."""
        sums, count = self._of_all()
        return {"sums": sums, "count": count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Each process takes over an equal share."""
        shares = self._trainer.world_size
        self._sums = {name: total / shares for name, total in state["sums"].items()}
        self._count = state["count"] / shares

    def _of_all(self) -> tuple[dict[str, float], float]:
        strategy, values = self._trainer.strategy, [*self._sums.values(), self._count]
        seen = torch.tensor([float(value) for value in values], dtype=torch.float64)
        *sums, count = strategy.reduce(seen.to(strategy.root_device), reduce_op="sum").tolist()
        return dict(zip(self._sums, sums, strict=True)), count


class History(L.Callback):
    """One row of metrics per epoch, counted from 1, in a CSV file and in every checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, as JSON."""
        return {"rows": json.dumps(self.rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rows of the interrupted run."""
        self.rows = json.loads(state["rows"])

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Add the epoch's row."""
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        self.rows.append({"epoch": trainer.current_epoch + 1, "lr": rate, **values})
        if not trainer.is_global_zero:
            return
        log.debug("  ".join(f"{key} {value:.4g}" for key, value in self.rows[-1].items()))
        fields = list(dict.fromkeys(key for row in self.rows for key in row))
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(self.rows)


class Patience(L.Callback):
    """Stops training after so many epochs without a better (larger) value.

    It looks at the whole history, which is written before, so a resumed run obeys the patience
    that is given now, and one that was stopped is prolonged by a larger one.
    """

    def __init__(self, history: History, monitor: str, patience: int) -> None:
        self.history, self.monitor, self.patience = history, monitor, patience

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop, if it is time; a resumed run does so before it trains."""
        values = [row[self.monitor] for row in self.history.rows]
        if values and len(values) - 1 - int(np.argmax(values)) >= self.patience:
            trainer.should_stop = True
            log.info(
                "stopped after epoch %d: %s was best in epoch %d, and trainer.patience=%d",
                len(values), self.monitor, int(np.argmax(values)) + 1, self.patience,
            )  # fmt: skip

    on_train_start = on_train_epoch_end


class EpochTimer(L.Callback):
    """Seconds that the training part of each epoch took, validation not counted, and its steps.

    Attributes:
        fit_seconds: what a fit took before the first epoch; None without one.
    """

    def __init__(self, fit_seconds: float | None = None) -> None:
        self.fit_seconds = fit_seconds
        self.seconds: list[float] = []
        self.steps: float | None = None  # of an epoch; infinite where data has no end
        self._start: float | None = None  # of an epoch that was interrupted it is not known

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far, and steps."""
        fit = self.fit_seconds
        return {"seconds": list(self.seconds), "steps": self.steps, "fit_seconds": fit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Those of the interrupted run."""
        self.seconds, self.steps = list(state["seconds"]), state.get("steps")
        self.fit_seconds = state.get("fit_seconds")

    @property
    def median(self) -> float | None:
        """Median seconds per epoch; None before the first one ended."""
        return statistics.median(self.seconds) if self.seconds else None

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()
        self.steps = trainer.num_training_batches

    def on_train_batch_end(self, trainer: L.Trainer, *of_batch: Any) -> None:
        """Stop it after the last batch."""
        if trainer.is_last_batch and self._start is not None:
            self.seconds.append(time.perf_counter() - self._start)


class Throughput(EpochTimer):
    """Also logs ``clouds_per_second`` of an epoch, of all processes, and ``peak_memory_bytes``.

    The latter is that of the first process since its start. An epoch that was interrupted has no
    throughput. It stands before :class:`History`, which writes down what is logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._clouds = 0

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Start the clock and count anew."""
        super().on_train_epoch_start(trainer, task)
        self._clouds = 0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        task: L.LightningModule,
        outputs: object,
        batch: Mapping[str, Tensor],
        batch_index: int,
    ) -> None:
        """Count the clouds of a batch, once however many views the loss wants of them."""
        super().on_train_batch_end(trainer)
        self._clouds += len(batch["points"]) * trainer.world_size

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Log both."""
        if self._start is not None:
            task.log("clouds_per_second", self._clouds / self.seconds[-1])
        task.log("peak_memory_bytes", float(peak_memory_bytes()))


class ProgressBar(L.Callback):
    """One line for the whole training: epoch, latest metrics, time left.

    Without a terminal it prints a plain line now and then. ``shown`` are (metric, label, format).
    """

    def __init__(
        self, title: str, shown: list[tuple[str, str, str]], console: Console | None = None
    ) -> None:
        self.title, self.shown, self.console = title, shown, console
        self._meter: Meter | None = None
        self._metrics = ""

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Open the bar at the epoch that training begins with."""
        if trainer.is_global_zero:
            self._meter = Meter(self.title, self.console)
            self._advance(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *of_batch: Any) -> None:
        """Move on by one step."""
        self._advance(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Show the epoch's metrics."""
        values = trainer.callback_metrics
        self._metrics = "  ".join(
            f"{label} {float(values[key]):{form}}"
            for key, label, form in self.shown
            if key in values
        )
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        if self._meter is not None and (epoch % max(1, epochs // 10) == 0 or epoch == epochs):
            self._meter.say(self._text(trainer))
        self._advance(trainer)

    def on_train_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        exception: BaseException | None = None,
    ) -> None:
        """Close the bar, also before an error is shown."""
        if self._meter is not None:
            self._meter.close()
            self._meter = None

    on_exception = on_train_end

    def _text(self, trainer: L.Trainer) -> str:
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 0)
        return f"epoch {epoch}/{trainer.max_epochs}  {self._metrics}".rstrip()

    def _advance(self, trainer: L.Trainer) -> None:
        if self._meter is not None:
            steps = int(trainer.estimated_stepping_batches)
            self._meter.update(trainer.global_step, steps, self._text(trainer))
