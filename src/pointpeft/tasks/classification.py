"""Classification as a Lightning module."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.data.transforms import Transform
from pointpeft.peft import PeftModel
from pointpeft.tasks.config import OptimizerConfig
from pointpeft.tasks.optimization import configure_adamw

__all__ = ["ClassificationTask"]

_TIE_WEIGHT = 1e-4  # of the loss in the validation score: it only decides between equal accuracies


class ClassificationTask(L.LightningModule):
    """Trains a :class:`PeftModel` with cross-entropy.

    Checkpoints hold what the adapter holds, not the frozen encoder.

    Args:
        model: the adapted model.
        optimizer: learning rate, decay and schedule.
        augmentation: random transform of training clouds, applied to whole batches.
    """

    def __init__(
        self, model: PeftModel, optimizer: OptimizerConfig, augmentation: Transform
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.augmentation = augmentation
        self.strict_loading = False

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy of an augmented batch."""
        logits = self.model(self.augmentation(batch["points"]), exclude=batch["index"])
        loss = F.cross_entropy(logits, batch["label"])
        accuracy = (logits.argmax(1) == batch["label"]).float().mean()
        size = len(logits)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Accuracy and loss on un-augmented clouds, and the score that selects the model."""
        logits = self.model(batch["points"])
        loss = F.cross_entropy(logits, batch["label"])
        accuracy = (logits.argmax(1) == batch["label"]).float().mean()
        values = {
            "val_loss": loss,
            "val_accuracy": accuracy,
            "val_score": accuracy - _TIE_WEIGHT * loss,
        }
        self.log_dict(values, batch_size=len(logits), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW, warm-up and cosine."""
        return configure_adamw(self, self.optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what the base encoder holds."""
        kept = self.model.adapter_state()
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in kept.items()}

    def load_best(self, path: Path) -> None:
        """Take over the trained tensors of a checkpoint."""
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        self.load_state_dict(state, strict=False)
