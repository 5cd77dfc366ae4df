"""Masked pre-training on unlabelled shapes: data in, encoder weights out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from pointpeft.data import InputTransform, ShapeSplit, load_unlabelled
from pointpeft.data.published.protocol import load_unlabelled_as_published
from pointpeft.data.published_sampling import published_recipe
from pointpeft.data.transforms import Transform, pool_size, recipe
from pointpeft.errors import ConfigError
from pointpeft.evaluation.records import peak_memory_bytes, versions
from pointpeft.files import write_json
from pointpeft.models import create_model, save_model
from pointpeft.peft.publishing import published_layout, save_published
from pointpeft.tasks.callbacks import EpochTimer, History, ProgressBar
from pointpeft.tasks.config import OptimizerConfig, PretrainConfig
from pointpeft.tasks.datamodule import pretraining_loader
from pointpeft.tasks.optimization import configure_adamw
from pointpeft.tasks.processes import Share, on_first_process, quiet_other_processes
from pointpeft.tasks.runs import RunFolder, resolve_checkpoint
from pointpeft.tasks.svm_check import SvmCheck
from pointpeft.tasks.trainer import fit, make_trainer

__all__ = ["PretrainingTask", "pretrain"]

log = logging.getLogger("pointpeft")

WEIGHTS = "backbone.safetensors"
"""Name of the encoder's file in a run folder."""
PUBLISHED_LAST = "ckpt-last.pth"
"""The whole model as its published repository keeps it, where that is asked for."""
BEST_WEIGHTS = "backbone_best.safetensors"
"""Encoder of the epoch whose linear SVM was the best, where there is such a check."""
PROCEDURAL = "procedural"
"""Name of the data source that stores no shapes: all of them are made on the way."""

_SHOWN = [("train_loss", "loss", ".5f"), ("svm_accuracy", "svm", ".1%")]
_NO_LABELS = np.empty(0, dtype=np.int64)


class PretrainingTask(L.LightningModule):
    """Trains a pre-training model, whose forward returns its loss.

    Args:
        model: made by ``create_model(name, task="pretraining")``; it says how many views of a
            batch it wants, and is told the step it is at.
        optimizer: learning rate, decay and schedule.
        augmentation: random transform of training clouds, applied to whole batches.
    """

    def __init__(self, model: Any, optimizer: OptimizerConfig, augmentation: Transform) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.augmentation = augmentation

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss, a scalar, of a batch ``{"points": (B, N, 3)}`` or of several views of it."""
        self.model.step = self.global_step
        views = [self.augmentation(batch["points"]) for _ in range(self.model.num_views)]
        loss = self.model(torch.cat(views))
        size = len(views[0])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW, warm-up and cosine."""
        return configure_adamw(self, self.optimizer)


def pretrain(
    config: PretrainConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Pre-train a backbone and write ``backbone.safetensors`` into a run folder.

    Besides the shapes of the data source it can train on procedural ones, or on them alone
    (``data.source`` "procedural"): ``config.procedural`` new ones in every epoch. Of several
    processes the first one writes; all return the same.

    Args:
        config: all settings.
        output: run folder.
        resume: continue an interrupted run in ``output``.
        progress: called with (done, total) while shapes are read.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: inconsistent settings.
        DataError: unusable data.
    """
    quiet_other_processes()
    published = config.protocol == "published"
    if published:
        config = replace(config, optimizer=replace(config.optimizer, rule="published"))
    run = RunFolder(output)
    run.prepare(config, resume)
    if resume and (finished := run.finished_metrics(config)):
        return finished
    L.seed_everything(config.seed, verbose=False)
    model = _make_model(config)
    if config.save_published:
        published_layout(model)  # complains before training if there is none
    with run.logging():
        network = getattr(model, "backbone", model)  # a tokenizer is trained as it is
        num_points = config.data.num_points or network.spec.num_points
        shapes, augmentation = _load(config, num_points, progress)
        run.begin(config)
        task = PretrainingTask(model, config.optimizer, augmentation)
        timer, checks = EpochTimer(), _checks(config, run)
        trainer = make_trainer(
            replace(config.trainer, epochs=config.trainer.epochs + published),
            run,
            config.seed,
            [*checks, History(run.history), timer, ProgressBar("pretrain", _SHOWN)],
            monitor=None,
            grad_clip=config.optimizer.grad_clip,
        )
        drawn_from = min(pool_size(num_points), shapes.points.shape[1])
        loader = pretraining_loader(
            shapes, config.procedural, shapes.points.shape[1] if published else drawn_from,
            config.trainer.batch_size, config.trainer.num_workers, config.seed, published,
            Share.of(trainer),
        )  # fmt: skip
        fit(trainer, task, loader, run.resume_from if resume else None)
        loss, items = float(trainer.callback_metrics["train_loss"]), len(shapes) + config.procedural
        metrics = _metrics(config, loss, items, timer)
        return on_first_process(trainer, lambda: _write(config, run, model, metrics))


def _write(
    config: PretrainConfig, run: RunFolder, model: Any, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Write the results of a run; give back what is in ``metrics.json``."""
    network = getattr(model, "backbone", model)
    save_model(network, run.path / WEIGHTS, epochs=config.trainer.epochs)
    if config.save_published:
        save_published(model, run.path / PUBLISHED_LAST, config.trainer.epochs)
    write_json(run.metrics, metrics)
    return metrics


def _make_model(config: PretrainConfig) -> Any:
    return create_model(
        config.model,
        task="pretraining",
        preset=config.preset,
        checkpoint=config.checkpoint and resolve_checkpoint(config.checkpoint),
        **config.backbone,
        **config.pretraining,
    )


def _checks(config: PretrainConfig, run: RunFolder) -> list[L.Callback]:
    if config.svm.source is None:
        return []
    return [SvmCheck(config.svm, config.protocol, run.path / BEST_WEIGHTS)]


def _metrics(config: PretrainConfig, loss: float, items: int, timer: EpochTimer) -> dict[str, Any]:
    return {
        "model": config.model,
        "weights": WEIGHTS,
        "loss": loss,
        "epochs": config.trainer.epochs,
        "items": items,
        "seconds_per_epoch": timer.median,
        "peak_memory_bytes": peak_memory_bytes(),
        "seed": config.seed,
        "versions": versions(),
    }


def _load(
    config: PretrainConfig, num_points: int, progress: Callable[[int, int], None] | None
) -> tuple[ShapeSplit, Transform]:
    """Clouds to train on, and what is done to them at every access."""
    data = config.data
    if config.protocol == "published":
        as_stored = load_unlabelled_as_published(data.source, data.variant, data.train_split)
        if as_stored is not None:
            return as_stored, published_recipe(data.augmentation, num_points, "pretraining")
    return _prepared(config, num_points, progress), recipe(data.augmentation, num_points)


def _prepared(
    config: PretrainConfig, num_points: int, progress: Callable[[int, int], None] | None
) -> ShapeSplit:
    if config.data.source == PROCEDURAL:
        if not config.procedural:
            raise ConfigError("--data procedural needs procedural=N, the shapes of an epoch")
        return ShapeSplit(np.empty((0, pool_size(num_points), 3), np.float32), _NO_LABELS, ())
    transform = InputTransform(
        num_points=num_points,
        normalize=config.data.normalize,  # type: ignore[arg-type]
        up_axis=config.data.up_axis,  # type: ignore[arg-type]
    )
    shapes = load_unlabelled(
        config.data.source,
        transform,
        variant=config.data.variant,
        on_error=config.data.on_error,  # type: ignore[arg-type]
        seed=config.data.seed,
        progress=progress,
    )
    for note in shapes.notes:
        log.info("%s: %s", config.data.source, note)
    for problem in shapes.problems:
        log.warning("skipped %s: %s", problem.item, problem.reason)
    return shapes
