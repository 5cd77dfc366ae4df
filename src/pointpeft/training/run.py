"""One fine-tuning run, of one seed and of several: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch

from pointpeft.compat.checkpoints.checkpoint_writer import pth_layout, save_pth
from pointpeft.compat.schedule import BatchNormMomentum
from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.benchmarks.benchmark import redraw
from pointpeft.data.embedded import EMBEDDED_LICENSES
from pointpeft.data.transforms import SCAN, RandomScan, pool_size
from pointpeft.errors import ConfigError, PointPeftError
from pointpeft.files import write_json
from pointpeft.measure.report.page import REPORT, write_run_report
from pointpeft.models import save_model, state_hash
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel, get_peft_model
from pointpeft.tasks.tuning_module import TuningModule
from pointpeft.training.callbacks import EpochTimer, History, Patience, ProgressBar
from pointpeft.training.config import VALIDATION_BATCH, FinetuneConfig
from pointpeft.training.engine import fit, make_trainer
from pointpeft.training.fitting import begin_head, fit_method, svm_beside
from pointpeft.training.inputs import (
    Banks,
    describe_input,
    load_data,
    make_backbone,
    note_shapes_seen_before,
    training_device,
)
from pointpeft.training.loaders import ShapeDataModule
from pointpeft.training.processes import Share, is_first_process, on_first_process
from pointpeft.training.remembering import frozen_training_features
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.results import measure, summarize
from pointpeft.training.run_folder import RunFolder
from pointpeft.training.run_log import Announcement, announce_data

__all__ = ["train_one_seed", "train_seeds"]

log = logging.getLogger("pointpeft")

_SCANS = 0
"""Seed of the scans that choose the epoch."""


def train_one_seed(
    resolved: ResolvedRun, data: ShapeData, run: RunFolder, resume: bool, banks: Banks
) -> dict[str, Any]:
    """Train with the one seed of a run, keep the best epoch, and measure it.

    Returns what ``metrics.json`` holds. Seeds share the memory ``banks``.
    """
    config, protocol = resolved.config, resolved.protocol
    if resume and (finished := run.finished_metrics(config)):
        return finished
    run.begin(config)
    data = redraw(data, config.seed)
    if config.data.augmentation == SCAN and data.selects_on == "val":
        data = replace(data, val=_scanned(data.val, data.transform.num_points))
    L.seed_everything(config.seed, verbose=False)
    if resolved.method.fitted:
        return _fit_at_once(resolved, data, run, banks)
    module = _make_module(resolved, data, run, banks)
    begun = run.begin_from(resume)
    fit_seconds = None
    if resolved.method.head == "lda" and begun is None:
        fit_seconds = begin_head(module.model, resolved, data)
    timer, history = EpochTimer(fit_seconds), History(run.history)
    votes = protocol.votes_in_training(config, data, run)
    extra_epochs = protocol.extra_epochs(config)
    callbacks = [
        BatchNormMomentum(config.optimizer),
        history,
        timer,
        Announcement(_title(config)),
        ProgressBar(_title(config), resolved.task.progress(data.selects_on)),
        *([votes] if votes else []),
    ]
    monitor = None  # without a validation split the last epoch counts
    if len(data.val):
        monitor = f"{data.selects_on}_{protocol.criterion(resolved.task.headline)}"
        if config.trainer.patience is not None:
            callbacks.append(Patience(history, monitor, config.trainer.patience))
    trainer = make_trainer(
        replace(config.trainer, epochs=config.trainer.epochs + extra_epochs),
        run,
        config.seed,
        callbacks,
        monitor=monitor,
        grad_clip=config.optimizer.grad_clip,
        first_epoch=extra_epochs,  # loops that run one more do not look at the first
        idle_parameters=module.model.tuner.leaves_idle or resolved.method.head == "lda",
    )
    batches = ShapeDataModule(
        data.train, data.val, data.transform.num_points, config.trainer.batch_size,
        config.trainer.num_workers, config.seed, drop_last=protocol.drop_last,
        share=Share.of(trainer),
    )  # fmt: skip
    fit(trainer, module, batches, begun)
    device = trainer.strategy.root_device
    return on_first_process(
        trainer, lambda: _conclude(resolved, data, run, module, device, timer, history, votes)
    )


def _fit_at_once(
    resolved: ResolvedRun, data: ShapeData, run: RunFolder, banks: Banks
) -> dict[str, Any]:
    """Fit a method that is not trained, and measure it."""
    config, augmentation = resolved.config, resolved.config.data.augmentation
    if augmentation not in (resolved.task.augmentation, SCAN, "none"):
        log.warning(
            "data.augmentation=%s changes nothing: method=%s is fitted to the shapes as they are",
            augmentation, config.method,
        )  # fmt: skip
    alike = ", every class counting alike" if config.class_weights == "balanced" else ""
    log.info("%s: fitted at once%s; epochs and learning rate change nothing", _title(config), alike)
    model = _make_model(resolved, data, run, banks)
    fitted = fit_method(model, resolved, data)
    metrics = _measured(model, resolved, data, run, None) | fitted | {"epochs": 0}
    write_json(run.metrics, metrics)
    return metrics


def _scanned(split: ShapeSplit, num_points: int) -> ShapeSplit:
    """A scan of each shape, the same ones in every run: what learns scans is chosen by scans."""
    if not len(split) or split.seg is not None:  # training refuses scans with part labels
        return split
    scans = RandomScan(num_points)(
        torch.from_numpy(split.points), torch.Generator().manual_seed(_SCANS)
    )
    return replace(split, points=scans.numpy())


def _conclude(
    resolved: ResolvedRun,
    data: ShapeData,
    run: RunFolder,
    module: TuningModule,
    device: torch.device,
    timer: EpochTimer,
    history: History,
    votes: Any,
) -> dict[str, Any]:
    """Write the adapter of the best epoch, and its metrics."""
    config, task, model, epochs = resolved.config, resolved.task, module.model, len(history.rows)
    epoch = module.load_best(run.best if len(data.val) else run.last)
    model.to(device)  # Lightning leaves it on the CPU
    metrics = _measured(model, resolved, data, run, timer.median)
    metrics |= {"best_epoch": epoch + 1, "epochs": epochs, "steps_per_epoch": timer.steps}
    if timer.fit_seconds is not None:
        metrics["fit_seconds"] = timer.fit_seconds
    log.info(
        "%s: the adapter is of epoch %d of %d (selection: %s)",
        _title(config), epoch + 1, epochs, metrics["selection"],
    )  # fmt: skip
    if config.save_published:
        save_pth(model, run.path / task.pth_best, epoch, metrics)
    if votes:
        metrics |= votes.conclude(module, config.save_published)
    if config.save_published and task.pth_last is not None:
        epoch, scores = module.load_best(run.last), history.rows[-1]
        save_pth(model, run.path / task.pth_last, epoch, scores)
    write_json(run.metrics, metrics)
    return metrics


def _measured(
    model: PeftModel, resolved: ResolvedRun, data: ShapeData, run: RunFolder, seconds: float | None
) -> dict[str, Any]:
    """Calibrate and save the adapter, then measure it."""
    batch_size = VALIDATION_BATCH * resolved.config.trainer.batch_size
    resolved.task.calibrate(model, data, batch_size)
    model.adapter.remember(frozen_training_features(model, resolved, data))
    model.save_pretrained(run.adapter)
    return measure(model, resolved, data, run, seconds)


def _title(config: FinetuneConfig) -> str:
    """What the progress line calls the run."""
    fold = "" if config.few_shot.fold is None else f" fold {config.few_shot.fold}"
    return f"{config.method}{fold} seed {config.seed}"


def _make_module(
    resolved: ResolvedRun, data: ShapeData, run: RunFolder, banks: Banks
) -> TuningModule:
    config, task, num_points = resolved.config, resolved.task, data.transform.num_points
    model = _make_model(resolved, data, run, banks)
    if config.save_published:
        pth_layout(model)  # complains before training if there is none
    _check_saves(model)
    augment = resolved.protocol.augmentation(config.data.augmentation, num_points, task.name)
    return task.module(model, config, resolved.schedule, augment, data)


def _check_saves(model: PeftModel) -> None:
    """Save once in vain: that something cannot be saved is to be known before it is trained."""
    with TemporaryDirectory() as folder:
        try:
            model.save_pretrained(folder)
        except PointPeftError:
            raise
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            name = model.config.method
            raise ConfigError(f"method={name}: its adapter cannot be saved: {error}") from error


def _make_model(resolved: ResolvedRun, data: ShapeData, run: RunFolder, banks: Banks) -> PeftModel:
    """The network under its method, with all that its adapter is to say about itself."""
    backbone, source = make_backbone(resolved.config)
    if source is None:  # random weights exist nowhere else
        if is_first_process():
            save_model(backbone, run.backbone)
        source = f"../{run.backbone.name}"
    method = resolved.method
    bank = banks.of(backbone) if method.uses_bank else None
    model = get_peft_model(resolved.task.network(backbone, data), method, bank)
    model.class_names, model.base_checkpoint = data.class_names, source
    model.parts = data.parts.to_dict() if data.parts else None
    model.input = describe_input(data, resolved.config.data)
    model.task = resolved.task.name
    model.license = resolved.config.license
    model.data_license = resolved.config.data_license or EMBEDDED_LICENSES.get(data.source or "")
    return model


def train_seeds(
    resolved: ResolvedRun,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
    report: bool = True,
) -> dict[str, Any]:
    """Train with each seed of a run, and write its folder with its report.

    Arguments, result and errors are those of :func:`pointpeft.finetune`.
    """
    config, run = resolved.config, RunFolder(output)
    run.prepare(config, resume)
    page = run.path / REPORT
    finished = run.finished_metrics(config) if resume else None
    if finished and (page.is_file() or not report):
        larger = "trainer.epochs" + (" or trainer.patience" if config.trainer.patience else "")
        further = "" if resolved.method.fitted else run.to_go_on(larger)
        log.info("%s had ended: nothing is trained%s", run.path, further)
        return finished
    with run.logging():
        backbone, source = make_backbone(config)
        if resume and source is not None:
            run.check_encoder(state_hash(backbone), source)
        data, metrics = _prepare(resolved, backbone, source, progress, data), finished
        if metrics is None:
            if is_first_process():
                page.unlink(missing_ok=True)  # of fewer epochs, if there is one
            run.begin(config)
            metrics = _all_seeds(resolved, data, run, resume)
        if not is_first_process():
            return metrics
        if report:
            pool = pool_size(data.transform.num_points)
            data = replace(data, train=resolved.protocol.in_order(data.train, pool))
            if finished is None:
                metrics |= svm_beside(resolved, data, metrics, run)
        write_json(run.metrics, metrics)
        if report:
            device = training_device(config)
            if (analysis := resolved.task.analyse_run(run.path, data, device)) is not None:
                write_run_report(run.path, analysis)
    return metrics


def _prepare(
    resolved: ResolvedRun,
    backbone: Trunk,
    source: str | None,
    progress: Callable[[int, int], None] | None,
    data: ShapeData | None,
) -> ShapeData:
    """Read the data, and refuse or warn of what cannot give a good model."""
    config, task, protocol = resolved.config, resolved.task, resolved.protocol
    if source is None:
        log.warning(
            "%s starts from random weights; for better results pre-train with `pointpeft "
            "pretrain` and pass its folder as checkpoint",
            config.model,
        )
    num_points = backbone.spec.num_points
    if protocol.notice is not None:
        log.warning(protocol.notice)
    if extra := protocol.extra_epochs(config):
        log.info("by protocol=%s epochs run beyond trainer.epochs: %d", protocol.name, extra)
    data = data or load_data(
        config.data, num_points, progress, segmented=task.segmented, protocol=protocol
    )
    task.check(data, config.data.source)
    data = protocol.selecting(data)
    if config.trainer.patience is not None and not len(data.val):
        log.warning("trainer.patience has no effect: there is no validation split")
    announce_data(config.data.source, data)
    return note_shapes_seen_before(data, source)


def _all_seeds(
    resolved: ResolvedRun, data: ShapeData, run: RunFolder, resume: bool
) -> dict[str, Any]:
    """Train with each seed, and sum up where there are several."""
    config = resolved.config
    banks = Banks(data, resolved)
    if config.seeds == 1:
        return train_one_seed(resolved, data, run, resume, banks)
    jobs = {run.path / f"seed{s}": s for s in range(config.seed, config.seed + config.seeds)}
    results = [
        train_one_seed(
            resolved.having(replace(config, seed=seed, seeds=1)),
            data,
            RunFolder(folder),
            resume,
            banks,
        )
        for folder, seed in jobs.items()
    ]
    return summarize(results, list(jobs), run, resolved.task)
