"""Masked pre-training as a Lightning module."""

from typing import Any

import lightning as L
from torch import Tensor, nn

from pointpeft.data.transforms import Transform
from pointpeft.tasks.config import OptimizerConfig
from pointpeft.tasks.optimization import configure_adamw

__all__ = ["PretrainingTask"]


class PretrainingTask(L.LightningModule):
    """Trains a pre-training model, whose forward returns its loss.

    Args:
        model: made by ``create_model(name, task="pretraining")``.
        optimizer: learning rate, decay and schedule.
        augmentation: random transform of training clouds, applied to whole batches.
    """

    def __init__(
        self, model: nn.Module, optimizer: OptimizerConfig, augmentation: Transform
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.augmentation = augmentation

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Reconstruction loss of an augmented batch."""
        points = self.augmentation(batch["points"])
        loss = self.model(points)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(points))
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW, warm-up and cosine."""
        return configure_adamw(self, self.optimizer)
