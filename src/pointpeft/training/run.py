"""One fine-tuning run, of one seed and of several: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from pointpeft.compat.checkpoints.writing import pth_layout, save_pth
from pointpeft.compat.schedule import BatchNormMomentum
from pointpeft.data import ShapeData
from pointpeft.data.benchmarks.benchmark import redraw
from pointpeft.files import write_json
from pointpeft.measure.report.page import REPORT, write_run_report
from pointpeft.models import save_model
from pointpeft.peft import PeftModel, get_peft_model
from pointpeft.tasks.task import Task
from pointpeft.tasks.tuning_module import TuningModule
from pointpeft.training.callbacks import EpochTimer, History, Patience, ProgressBar
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.engine import fit, make_trainer
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
from pointpeft.training.protocol import Protocol
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.results import measure, summarize
from pointpeft.training.run_folder import RunFolder
from pointpeft.training.run_log import Announcement, announce_data

__all__ = ["train_one_seed", "train_seeds"]

log = logging.getLogger("pointpeft")


def train_one_seed(
    resolved: ResolvedRun, data: ShapeData, run: RunFolder, resume: bool, banks: Banks
) -> dict[str, Any]:
    """Train with one seed, keep the best epoch, and measure it.

    Args:
        resolved: the run, of the one seed.
        data: what to train on, and to measure.
        run: the folder to fill.
        resume: continue what is in it.
        banks: memory banks, which seeds share.

    Returns:
        What ``metrics.json`` holds.
    """
    config, task, protocol = resolved.config, resolved.task, resolved.protocol
    seed = config.seed
    if resume and (finished := run.finished_metrics(config)):
        return finished
    run.begin(config)
    data = redraw(data, seed)
    L.seed_everything(seed, verbose=False)
    module = _make_module(resolved, data, run, banks)
    model = module.model
    extra_epochs = protocol.extra_epochs(config)
    timer, history = EpochTimer(), History(run.history)
    votes = protocol.votes_in_training(config, data, run)
    monitor = _monitor(protocol, task, data)
    trainer = make_trainer(
        replace(config.trainer, epochs=config.trainer.epochs + extra_epochs),
        run,
        seed,
        [
            BatchNormMomentum(config.optimizer),
            history,
            timer,
            Announcement(_title(config)),
            ProgressBar(_title(config), task.progress(data.selects_on)),
            *([votes] if votes else []),
            *_patience(config, history, monitor),
        ],
        monitor=monitor,
        grad_clip=config.optimizer.grad_clip,
        first_epoch=extra_epochs,  # loops that run one more do not look at the first
        idle_parameters=model.tuner.leaves_idle,
    )
    batches = ShapeDataModule(
        data.train, data.val, data.transform.num_points, config.trainer.batch_size,
        config.trainer.num_workers, seed, drop_last=protocol.drop_last, share=Share.of(trainer),
    )  # fmt: skip
    fit(trainer, module, batches, run.resume_from if resume else None)

    def conclude() -> dict[str, Any]:
        epoch = module.load_best(run.best if len(data.val) else run.last)
        model.save_pretrained(run.adapter)
        model.to(trainer.strategy.root_device)  # Lightning leaves it on the CPU
        metrics = measure(model, resolved, data, run, timer)
        metrics |= {"best_epoch": epoch + 1, "epochs": len(history.rows)}
        log.info(
            "%s: the adapter is of epoch %d of %d (selection: %s)",
            _title(config), epoch + 1, len(history.rows), metrics["selection"],
        )  # fmt: skip
        if config.save_published:
            save_pth(model, run.path / task.pth_best, epoch, metrics)
        if votes:
            metrics |= votes.conclude(module, config.save_published)
        if config.save_published and task.pth_last is not None:
            _save_last(module, run, task.pth_last, history)
        write_json(run.metrics, metrics)
        return metrics

    return on_first_process(trainer, conclude)


def _save_last(module: TuningModule, run: RunFolder, name: str, history: History) -> None:
    """Write the model of the last epoch, which ``module`` has afterwards, as a .pth file."""
    epoch = module.load_best(run.last)
    scores = {"test_accuracy": history.rows[-1].get("test_accuracy")}
    save_pth(module.model, run.path / name, epoch, scores)


def _title(config: FinetuneConfig) -> str:
    """What the progress line calls the run."""
    fold = "" if config.few_shot.fold is None else f" fold {config.few_shot.fold}"
    return f"{config.method}{fold} seed {config.seed}"


def _monitor(protocol: Protocol, task: Task, data: ShapeData) -> str | None:
    """What chooses the epoch; without a validation split nothing does."""
    if not len(data.val):
        return None
    return f"{data.selects_on}_{protocol.criterion(task.headline)}"


def _patience(config: FinetuneConfig, history: History, monitor: str | None) -> list[L.Callback]:
    """What stops training early, if that is asked for."""
    if config.trainer.patience is None:
        return []
    if monitor is None:
        log.warning("trainer.patience has no effect: there is no validation split")
        return []
    return [Patience(history, monitor, config.trainer.patience)]


def _make_module(
    resolved: ResolvedRun, data: ShapeData, run: RunFolder, banks: Banks
) -> TuningModule:
    config, num_points = resolved.config, data.transform.num_points
    model = _make_model(resolved, data, run, banks)
    if config.save_published:
        pth_layout(model)  # complains before training if there is none
    augmentation = resolved.protocol.augmentation(
        config.data.augmentation, num_points, resolved.task.name
    )
    return resolved.task.module(model, config, resolved.schedule, augmentation, data)


def _make_model(resolved: ResolvedRun, data: ShapeData, run: RunFolder, banks: Banks) -> PeftModel:
    """The network under its method, with all that its adapter is to say about itself."""
    backbone, source = make_backbone(resolved.config)
    if source is None:  # random weights exist nowhere else
        if is_first_process():
            save_model(backbone, run.backbone)
        source = f"../{run.backbone.name}"
    method = resolved.method
    compat = getattr(method, "reference_compat", False)
    bank = banks.of(backbone, compat) if method.uses_bank else None
    model = get_peft_model(resolved.task.network(backbone, data), method, bank)
    model.class_names, model.base_checkpoint = data.class_names, source
    model.parts = data.parts.to_dict() if data.parts else None
    model.input = describe_input(data, resolved.config.data)
    model.task = resolved.task.name
    return model


def train_seeds(
    resolved: ResolvedRun,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
) -> dict[str, Any]:
    """Train with each seed of a run, and write its folder with its report.

    Arguments, result and errors are those of :func:`pointpeft.finetune`.
    """
    config, run = resolved.config, RunFolder(output)
    run.prepare(config, resume)
    page = run.path / REPORT
    finished = run.finished_metrics(config) if resume else None
    if finished and page.is_file():
        larger = "trainer.epochs" + (" or trainer.patience" if config.trainer.patience else "")
        log.info("%s had ended: nothing is trained; a larger %s goes on", run.path, larger)
        return finished
    with run.logging():
        data = _prepare(resolved, progress, data)
        if finished:  # but it was stopped before its report was written
            _report(resolved, data, run)
            return finished
        if is_first_process():
            page.unlink(missing_ok=True)  # of fewer epochs, if there is one
        run.begin(config)
        metrics = _all_seeds(resolved, data, run, resume)
        if is_first_process():
            write_json(run.metrics, metrics)
        _report(resolved, data, run)
    return metrics


def _prepare(
    resolved: ResolvedRun,
    progress: Callable[[int, int], None] | None,
    data: ShapeData | None,
) -> ShapeData:
    """Read the data, and refuse or warn of what cannot give a good model."""
    config, task, protocol = resolved.config, resolved.task, resolved.protocol
    backbone, source = make_backbone(config)
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


def _report(resolved: ResolvedRun, data: ShapeData, run: RunFolder) -> None:
    """Write the page about a run."""
    if not is_first_process():
        return
    analysis = resolved.task.analyse_run(run.path, data, training_device(resolved.config))
    if analysis is not None:
        write_run_report(run.path, analysis)
