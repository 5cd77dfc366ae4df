"""What a run says before it begins: what it found, and what it is about to do with it."""

import logging
from collections.abc import Sequence
from typing import Any

import lightning as L

from pointpeft.data import ShapeData

__all__ = ["Announcement", "announce_data"]

log = logging.getLogger("pointpeft")

_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def announce_data(
    source: str, data: ShapeData, splits: Sequence[str] = ("train", "val", "test")
) -> None:
    """Log how many shapes there are in the splits that are used, and of what."""
    own = [name for name in splits if name != "val" or data.selects_on == "val"]
    counts = ", ".join(f"{len(getattr(data, name)):,} {_SPLITS[name]}" for name in own)
    log.info(
        "%s: shapes: %s; classes: %d; points of a shape: %d",
        source, counts, len(data.class_names), data.transform.num_points,
    )  # fmt: skip


class Announcement(L.Callback):
    """Logs what is trained for how long on what, and where the results go.

    Args:
        name: of the run.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_start(self, trainer: Any, task: L.LightningModule) -> None:
        """Say it."""
        trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
        device, processes = trainer.strategy.root_device.type, trainer.world_size
        log.info(
            "%s: trains %s parameters on %s; epochs %d to %d, batches of an epoch: %d, shapes of a "
            "batch: %d; writes to %s",
            self.name, f"{trained:,}",
            device if processes == 1 else f"{processes} devices ({device})",
            trainer.current_epoch + 1, trainer.max_epochs, trainer.num_training_batches,
            processes * trainer.train_dataloader.batch_size, trainer.logger.save_dir,
        )  # fmt: skip
