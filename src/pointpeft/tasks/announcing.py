"""What a run says before it begins: what it found, and what it is about to do with it."""

import logging
from typing import Any

import lightning as L

from pointpeft.data import ShapeData
from pointpeft.tasks.tuning import selecting_split

__all__ = ["announce_data", "announce_training"]

log = logging.getLogger("pointpeft")


def announce_data(source: str, data: ShapeData) -> None:
    """Log how many shapes there are to train on, to select by and to measure."""
    splits = {"training": data.train, "validation": data.val, "test": data.test}
    if selecting_split(data) == "test":
        del splits["validation"]
    counts = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    log.info(
        "%s: shapes: %s; classes: %d; points of a shape: %d",
        source, counts, len(data.class_names), data.transform.num_points,
    )  # fmt: skip


def announce_training(name: str, trainer: Any, task: L.LightningModule) -> None:
    """Log what is trained for how long on what, and where the results go.

    Args:
        name: of the run.
        trainer: that is about to train.
        task: what it trains.
    """
    trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
    device, processes = trainer.strategy.root_device.type, trainer.world_size
    log.info(
        "%s: trains %s parameters on %s; epochs %d to %d, batches of an epoch: %d, shapes of a "
        "batch: %d; writes to %s",
        name, f"{trained:,}",
        device if processes == 1 else f"{processes} devices ({device})",
        trainer.current_epoch + 1, trainer.max_epochs, trainer.num_training_batches,
        processes * trainer.train_dataloader.batch_size, trainer.logger.save_dir,
    )  # fmt: skip
