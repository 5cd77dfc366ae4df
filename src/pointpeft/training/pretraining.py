"""Masked pre-training on unlabelled shapes: data in, encoder weights out."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from pointpeft.compat.checkpoints.checkpoint_writer import pth_layout, save_pth
from pointpeft.compat.protocol import find_protocol
from pointpeft.compat.schedule import BatchNormMomentum
from pointpeft.create import create_model
from pointpeft.data.cache import pack_digests
from pointpeft.data.transforms import Transform
from pointpeft.files import write_json
from pointpeft.locations import BEST_ENCODER, ENCODER, resolve_checkpoint
from pointpeft.measure.records import peak_memory_bytes, versions
from pointpeft.models import save_model
from pointpeft.models.objective import Pretraining
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.process_state import undisturbed
from pointpeft.progress import Meter
from pointpeft.training.callbacks import (
    History,
    MeanLoss,
    ProgressBar,
    StepSeeds,
    Throughput,
)
from pointpeft.training.config import PretrainConfig
from pointpeft.training.engine import fit, make_trainer
from pointpeft.training.faults import Faults
from pointpeft.training.inputs import shapes_seen
from pointpeft.training.optimizer import Schedule, configure_adamw
from pointpeft.training.pretraining_batches import PretrainingBatches, PretrainingClouds
from pointpeft.training.pretraining_checks import BestEpoch, RebuildingCheck, SvmCheck
from pointpeft.training.processes import Share, on_first_process, quiet_other_processes
from pointpeft.training.protocol import HONEST
from pointpeft.training.run_folder import RunFolder
from pointpeft.training.run_log import Announcement
from pointpeft.training.teacher_features import teacher_features
from pointpeft.training.unlabelled import PretrainingData, load_pretraining_data, stored_points

__all__ = ["PretrainingModule", "make_model", "pretrain"]

log = logging.getLogger("pointpeft")

PTH_LAST, PTH_BEST = "ckpt-last.pth", "ckpt-best.pth"
"""The whole model as the repository of its paper keeps it, where that is asked for."""

_MOST_REMEMBERED = 6_000_000
"""Shapes whose hashes fit into the header of a safetensors file, 100 MB."""


class PretrainingModule(L.LightningModule):
    """Trains a pre-training model, whose forward returns its loss.

    Args:
        model: made by ``create_model(name, task="pretraining")``; it says how many copies of a
            batch it wants, and is told the step it is at.
        schedule: learning rate and decay.
        augmentation: random transform of training clouds, applied to whole batches.
        features: what the model's teacher sees of stored clouds, ``(S, D)``; None: it looks at each
            batch.
    """

    def __init__(
        self,
        model: Pretrainable,
        schedule: Schedule,
        augmentation: Transform,
        features: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.model = model
        self.schedule = schedule
        self.augmentation = augmentation

    def training_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Any]:
        """Loss and its terms of a batch ``{"points": (B, N, 3)}``, or of several copies of it."""
        self.model.step = self.global_step
        copies = [self.augmentation(batch["points"]) for _ in range(self.model.copies)]
        losses = self.model.losses(torch.cat(copies), **self._seen(batch))
        terms = {name: loss.detach() for name, loss in losses.items()}
        return {"loss": self.model.total(losses), "terms": terms}

    def _seen(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the teacher saw of a batch; it looks again where it has not seen all of it."""
        if self.features is None or batch.get("unreadable"):
            return {}
        index = batch["index"]
        if int(index.max()) >= len(self.features):
            return {}
        seen = self.features[index.cpu()]
        if not seen.isfinite().all():  # a shard that could not be read before training can be now
            return {}
        return {"seen": seen.to(batch["points"]).repeat(self.model.copies, 1)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, warm-up and cosine."""
        return configure_adamw(self, self.schedule)


@undisturbed()
def pretrain(
    config: PretrainConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Pre-train a backbone and write ``backbone.safetensors`` into a run folder.

    Besides the shapes of the data source it can train on procedural ones, or on them alone
    (``data.source`` "procedural"): ``config.procedural`` new ones in every epoch. Where a check
    says which epoch is the best, its encoder is kept as ``backbone_best.safetensors``. Of several
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
    config = find_protocol(config.protocol).resolve(config)
    run = RunFolder(output)
    run.prepare(config, resume)
    if resume and (finished := run.finished_metrics(config)):
        log.info("%s had ended: nothing is trained%s", run.path, run.to_go_on("trainer.epochs"))
        return finished
    L.seed_everything(config.seed, verbose=False)
    model = make_model(config)
    if config.save_published:
        pth_layout(model)  # complains before training if there is none
    with run.logging():
        num_points = config.data.num_points or model.core.spec.num_points
        clouds = load_pretraining_data(config, num_points, find_protocol(config.protocol), progress)
        log.info(
            "%s: shapes: %s; procedural shapes of an epoch: %s; points of a shape: %d",
            config.data.source, f"{len(clouds.train):,}", f"{config.procedural:,}", num_points,
        )  # fmt: skip
        if len(clouds.train) + config.procedural < config.trainer.batch_size:
            log.warning(
                "fewer shapes than trainer.batch_size=%d: an epoch is one step; a smaller batch or "
                "further shapes by procedural=N make more of it", config.trainer.batch_size,
            )  # fmt: skip
        run.begin(config)
        before = config.checkpoint and resolve_checkpoint(config.checkpoint)
        known = clouds.train.marks() | shapes_seen(before)
        if len(known) > _MOST_REMEMBERED:
            log.warning("more shapes than an encoder can remember: it will not say which it knows")
            known = frozenset()
        clouds = replace(clouds, known=known)
        return _train(config, run, model, clouds, resume)


def make_model(config: PretrainConfig) -> Pretrainable:
    """The network that a config pre-trains, with the weights that it starts from.

    Raises:
        ConfigError: unknown or unfit settings.
        CheckpointError: the weights are missing or do not fit.
    """
    model: Pretrainable = create_model(
        config.model,
        task="pretraining",
        preset=config.preset,
        checkpoint=config.checkpoint,
        **config.backbone,
        **config.pretraining,
    )
    return model


def _train(
    config: PretrainConfig,
    run: RunFolder,
    model: Pretrainable,
    clouds: PretrainingData,
    resume: bool,
) -> dict[str, Any]:
    """Train, and write the results; give back what is in ``metrics.json``."""
    protocol = find_protocol(config.protocol)
    schedule = Schedule.of(config.optimizer, config.trainer.epochs)
    epochs = config.trainer.epochs + protocol.extra_epochs(config)
    begun = run.begin_from(resume)
    timer, history, checks = Throughput(), History(run.history), _checks(config, run, clouds)
    selection = "last epoch: there is no check"
    if checks:
        selection = (protocol if checks[0].split == protocol.selects_on else HONEST).selection
    log.info("%s protocol; epochs are selected by: %s", config.protocol, selection)
    shown = [("train_loss", "loss", ".5f"), *((c.metric, c.label, c.form) for c in checks)]
    trainer = make_trainer(
        replace(config.trainer, epochs=epochs),
        run,
        config.seed,
        [
            StepSeeds(config.seed), BatchNormMomentum(config.optimizer), MeanLoss(), *checks,
            timer, history,
            Announcement("pretrain"), ProgressBar("pretrain", shown),
        ],
        monitor=None,
        grad_clip=config.optimizer.grad_clip,
        idle_parameters=model.leaves_idle,
        faults=_faults(config, run, clouds),
        minutes=config.checkpoint_minutes,
    )  # fmt: skip
    batches = PretrainingBatches(
        clouds.train, config.procedural, clouds.num_points, config.trainer.batch_size,
        config.trainer.num_workers, config.seed, protocol.drop_last, Share.of(trainer),
    )  # fmt: skip
    features = _look(config, model, clouds, trainer)
    task = PretrainingModule(model, schedule, clouds.augmentation, features)
    fit(trainer, task, batches, begun)

    def conclude() -> dict[str, Any]:
        metrics = {
            "model": config.model,
            "protocol": config.protocol,
            "selection": selection,
            "weights": ENCODER,
            **_best(checks),
            "loss": history.rows[-1]["train_loss"],
            "epochs": epochs,
            "items": len(clouds.train) + config.procedural,
            "seconds_per_epoch": timer.median,
            "peak_memory_bytes": peak_memory_bytes(),
            "seed": config.seed,
            "versions": versions(),
        }
        _save(config, run, model, clouds, epochs)
        write_json(run.metrics, metrics)
        return metrics

    return on_first_process(trainer, conclude)


def _look(
    config: PretrainConfig, model: Pretrainable, clouds: PretrainingData, trainer: L.Trainer
) -> Tensor | None:
    """What the model's teacher, if it has one, sees of the stored clouds."""
    if not (isinstance(model, Pretraining) and model.terms.teacher and len(clouds.train)):
        return None
    if config.procedural:
        log.warning("procedural shapes are new in every epoch: the teacher looks at every batch")
        return None
    started = time.monotonic()
    with Meter("teacher") as meter:
        seen = teacher_features(
            model.terms.teacher.to(trainer.strategy.root_device),
            clouds.train,
            on_error=config.data.on_error,  # type: ignore[arg-type]
            share=Share.of(trainer),
            progress=meter.update,
        )
    log.info("teacher: looked at %s shapes in %.0f s", f"{len(seen):,}", time.monotonic() - started)
    return seen


def _faults(config: PretrainConfig, run: RunFolder, clouds: PretrainingData) -> Faults:
    """What ends the run and what is left out."""
    names = PretrainingClouds(clouds.train, clouds.num_points, config.seed).names
    return Faults(run.last, config.on_fault == "skip", config.data.on_error == "skip", names)


def _checks(config: PretrainConfig, run: RunFolder, clouds: PretrainingData) -> list[BestEpoch]:
    """What measures the model during training, and keeps the best one."""

    def keep(model: Pretrainable, epochs: int, value: float) -> None:
        scores = {"test_accuracy": value} if config.svm.source is not None else {}
        _save(config, run, model, clouds, epochs, (BEST_ENCODER, PTH_BEST), scores)

    checks: list[BestEpoch] = []
    if config.svm.source is not None:
        protocol = find_protocol(config.protocol)
        checks.append(SvmCheck(config.svm, protocol, keep, config.data, clouds.known))
    if config.validate_every is not None and clouds.held_out is not None:
        held_out = PretrainingClouds(clouds.held_out, stored_points(clouds.held_out))
        every, skip = config.validate_every, config.data.on_error == "skip"
        checks.append(RebuildingCheck(held_out, clouds.draw, every, keep, clouds.split, skip))
    return checks


def _save(
    config: PretrainConfig,
    run: RunFolder,
    model: Pretrainable,
    clouds: PretrainingData,
    epochs: int,
    names: tuple[str, str] = (ENCODER, PTH_LAST),
    scores: Mapping[str, float] | None = None,
) -> None:
    """Write the encoder and, where that is asked for, the whole model as a .pth file."""
    shapes = pack_digests(clouds.known)
    save_model(model.core, run.path / names[0], epochs=epochs, shapes=shapes)
    if config.save_published:
        save_pth(model, run.path / names[1], epochs - 1, scores)  # its number, from 0


def _best(checks: Sequence[BestEpoch]) -> dict[str, Any]:
    """The best epoch, where there is one, in ``metrics.json``."""
    found: dict[str, Any] = {}
    for check in checks:
        if check.best is not None:
            found = {"best_weights": BEST_ENCODER, f"best_{check.metric}": check.best}
            found["best_epoch"] = check.best_epoch
    return found
