"""Training that diverges is stopped at once."""

from pathlib import Path

import lightning as L
from torch import Tensor

from pointpeft.errors import TrainingError

__all__ = ["FiniteCheck"]


class FiniteCheck(L.Callback):
    """Stops training when a loss, a metric or a weight is NaN or infinite.

    The checkpoint of the last epoch stays as it is: no step is taken with such a loss, and an epoch
    that ends with such weights is not saved.

    Args:
        last: the checkpoint of the last epoch.
    """

    def __init__(self, last: Path) -> None:
        self.last = last

    def on_before_backward(self, trainer: L.Trainer, task: L.LightningModule, loss: Tensor) -> None:
        """Look at the loss before it is used.

        Raises:
            TrainingError: it is not finite in some process; all of them raise.
        """
        problem = "" if loss.isfinite() else f"the loss is {loss.item()}"
        self._stop_if(problem, trainer, trainer.global_step + 1)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Look at what was measured and at the weights before the epoch is saved.

        Raises:
            TrainingError: something is not finite in some process; all of them raise.
        """
        values = {**trainer.callback_metrics, **task.state_dict()}
        broken = [name for name, value in values.items() if not value.isfinite().all()]
        problem = f"{', '.join(broken[:3])} became NaN or infinite" if broken else ""
        self._stop_if(problem, trainer, trainer.global_step)

    def _stop_if(self, problem: str, trainer: L.Trainer, step: int) -> None:
        if trainer.strategy.reduce_boolean_decision(not problem, all=True):
            return
        epoch, rate = trainer.current_epoch, trainer.optimizers[0].param_groups[-1]["lr"]
        kept = "no epoch had ended, so there is nothing to resume"
        if self.last.is_file():
            kept = f"{self.last} keeps the state after epoch {epoch}"
        raise TrainingError(
            f"training diverged in epoch {epoch + 1}, step {step} of the run: "
            f"{problem or 'another process has found a value that is not finite'}. The learning "
            f"rate in force is {rate:.3g}. Start again in another `output` with a lower "
            "optimizer.lr (try a tenth); if that does not help, use trainer.precision=32-true and "
            f"look for extreme coordinates in the data. {kept}"
        )
