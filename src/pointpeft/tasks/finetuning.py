"""Adapting a backbone to labelled shapes: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from pointpeft.data import ShapeData
from pointpeft.data.published.ragged import redraw
from pointpeft.data.published_sampling import published_recipe
from pointpeft.data.transforms import recipe
from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.evaluation.report.page import REPORT
from pointpeft.files import write_json
from pointpeft.models import save_model
from pointpeft.peft import PeftConfig, PeftModel, config_class, get_peft_model
from pointpeft.peft.publishing import published_layout, save_published
from pointpeft.tasks.banks import Banks, training_device
from pointpeft.tasks.batchnorm_momentum import BatchNormMomentum
from pointpeft.tasks.callbacks import EpochTimer, History, ProgressBar
from pointpeft.tasks.classification import Classification
from pointpeft.tasks.config import DataConfig, FinetuneConfig
from pointpeft.tasks.datamodule import ShapeDataModule
from pointpeft.tasks.goal import Goal
from pointpeft.tasks.inputs import load_data, make_backbone
from pointpeft.tasks.optimization import with_cosine
from pointpeft.tasks.processes import (
    Share,
    is_first_process,
    on_first_process,
    quiet_other_processes,
)
from pointpeft.tasks.protocol import as_published
from pointpeft.tasks.results import measure, summarize
from pointpeft.tasks.runs import RunFolder
from pointpeft.tasks.segmentation import PartSegmentation
from pointpeft.tasks.trainer import fit, make_trainer
from pointpeft.tasks.tuning import TuningTask

__all__ = ["finetune", "load_data", "make_backbone", "tune"]

log = logging.getLogger("pointpeft")

PUBLISHED_NOTICE = (
    "published protocol: the epoch is selected on the test split, so the accuracy is an upper bound"
)
_GOALS: dict[str, Goal] = {goal.name: goal for goal in (Classification(), PartSegmentation())}


def finetune(
    config: FinetuneConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
) -> dict[str, Any]:
    """Adapt a backbone to a labelled data set and write a run folder.

    The checkpoint is chosen on the validation split; the test split is used once, at the end. The
    published protocol chooses on the test split, and says so. Of several processes the first one
    writes and measures; all return the same.

    Args:
        config: all settings.
        output: run folder; with several seeds each gets a sub-folder ``seed<N>``.
        resume: continue an interrupted run in ``output``.
        progress: called with (done, total) while shapes are read.
        data: what to train on, or to draw episodes from, instead of what ``config.data`` names.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: inconsistent settings.
        DataError: unusable data.
        CheckpointError: weights that do not fit.
    """
    quiet_other_processes()
    config = _resolve(config)  # fails before reading data
    if config.few_shot.way is None:
        return tune(config, output, resume, progress, data)
    from pointpeft.tasks.few_shot import few_shot

    return few_shot(config, output, resume, progress, data)


def tune(
    config: FinetuneConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
) -> dict[str, Any]:
    """What :func:`finetune` does once its config is resolved, but for few-shot episodes."""
    goal = _GOALS[config.task]
    run = RunFolder(output)
    run.prepare(config, resume)
    page = run.path / REPORT
    finished = run.finished_metrics(config) if resume else None
    if finished and (page.is_file() or not goal.reports):
        return finished
    with run.logging():
        data = _prepare(config, goal, progress, data)
        if finished:  # but it was stopped before its report was written
            _report(config, goal, data, run)
            return finished
        if is_first_process():
            page.unlink(missing_ok=True)  # of fewer epochs, if there is one
        run.begin(config)
        metrics = _all_seeds(config, goal, data, run, resume)
        if is_first_process():
            write_json(run.metrics, metrics)
        _report(config, goal, data, run)
    return metrics


def _find_goal(task: str) -> Goal:
    if task in _GOALS:
        return _GOALS[task]
    known = list(_GOALS)
    raise ConfigError(
        f"unknown task {task!r}: {nearest_hint(task, known)}tasks: {', '.join(known)}"
    )


def _resolve(config: FinetuneConfig) -> FinetuneConfig:
    """The config with what suits its task, method and protocol in place of all left open."""
    goal = _find_goal(config.task)
    if goal.segmented and config.votes:
        raise ConfigError("votes is for classification: parts are not voted for")
    if goal.segmented and config.few_shot.way is not None:
        raise ConfigError("few_shot.way is for classification: episodes have no parts")
    config = as_published(replace(config, method=config.method or goal.method))
    settings = _settings(config)  # complains of an unknown method or setting
    lr = config.optimizer.lr or goal.learning_rate(settings)
    return replace(
        config,
        optimizer=replace(config.optimizer, lr=lr),
        data=replace(config.data, augmentation=config.data.augmentation or goal.augmentation),
    )


def _prepare(
    config: FinetuneConfig,
    goal: Goal,
    progress: Callable[[int, int], None] | None,
    data: ShapeData | None,
) -> ShapeData:
    """Read the data, and refuse or warn of what cannot give a good model."""
    backbone, source = make_backbone(config)
    if source is None:
        log.warning(
            "%s starts from random weights; for better results pre-train with `pointpeft "
            "pretrain` and pass its folder as checkpoint",
            config.model,
        )
    num_points = backbone.spec.num_points
    if config.protocol == "published":
        log.warning(PUBLISHED_NOTICE)
    data = data or load_data(
        config.data, num_points, progress, segmented=goal.segmented, protocol=config.protocol
    )
    goal.check(data, config.data.source)
    return data


def _all_seeds(
    config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder, resume: bool
) -> dict[str, Any]:
    """Train with each seed, and sum up where there are several."""
    banks = Banks(data, config)
    if config.seeds == 1:
        return _one_seed(config, goal, data, run, resume, banks)
    jobs = {run.path / f"seed{s}": s for s in range(config.seed, config.seed + config.seeds)}
    results = [
        _one_seed(replace(config, seed=seed, seeds=1), goal, data, RunFolder(folder), resume, banks)
        for folder, seed in jobs.items()
    ]
    return summarize(results, list(jobs), run, goal)


def _one_seed(
    config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder, resume: bool, banks: Banks
) -> dict[str, Any]:
    seed = config.seed
    if resume and (finished := run.finished_metrics(config)):
        return finished
    run.begin(config)
    data = redraw(data, seed)
    L.seed_everything(seed, verbose=False)
    task = _make_task(config, goal, data, run, banks)
    model, published = task.model, config.protocol == "published"
    # Published loops have one epoch more and do not look at the first, but for part segmentation.
    one_more = int(published and not goal.segmented)
    timer = EpochTimer()
    trainer = make_trainer(
        replace(config.trainer, epochs=config.trainer.epochs + one_more),
        run,
        seed,
        [
            BatchNormMomentum(config.optimizer),
            History(run.history),
            timer,
            ProgressBar(f"{config.method} seed {seed}", list(goal.shown)),
        ],
        monitor=_monitor(config, goal, data),
        grad_clip=config.optimizer.grad_clip,
        first_epoch=one_more,
        idle_parameters=model.tuner.leaves_idle,
    )
    modules = ShapeDataModule(
        data.train, data.val, data.transform.num_points, config.trainer.batch_size,
        config.trainer.num_workers, seed, drop_last=published, share=Share.of(trainer),
    )  # fmt: skip
    fit(trainer, task, modules, run.resume_from if resume else None)

    def conclude() -> dict[str, Any]:
        epoch = task.load_best(run.best if len(data.val) else run.last)
        model.save_pretrained(run.adapter)
        model.to(trainer.strategy.root_device)  # Lightning leaves it on the CPU
        metrics = measure(model, goal, data, config, run, timer)
        if config.save_published:
            save_published(model, run.path / goal.published_best, epoch, metrics)
        write_json(run.metrics, metrics)
        return metrics

    return on_first_process(trainer, conclude)


def _monitor(config: FinetuneConfig, goal: Goal, data: ShapeData) -> str | None:
    """What chooses the epoch; without a validation split nothing does."""
    if not len(data.val):
        return None
    return f"val_{goal.headline}" if config.protocol == "published" else "val_score"


def _make_task(
    config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder, banks: Banks
) -> TuningTask:
    model = _make_model(config, goal, data, run, banks)
    if config.save_published:
        published_layout(model)  # complains before training if there is none
    augmentation = recipe(config.data.augmentation, data.transform.num_points)
    if config.protocol == "published":
        augmentation = published_recipe(
            config.data.augmentation, data.transform.num_points, config.task
        )
    optimizer = with_cosine(config.optimizer, config.trainer.epochs)
    return goal.module(model, replace(config, optimizer=optimizer), augmentation, data)


def _make_model(
    config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder, banks: Banks
) -> PeftModel:
    """The network under its method, with all that its adapter is to say about itself."""
    backbone, source = make_backbone(config)
    if source is None:  # random weights exist nowhere else
        if is_first_process():
            save_model(backbone, run.backbone)
        source = f"../{run.backbone.name}"
    settings = _settings(config)
    compat = getattr(settings, "reference_compat", False)
    bank = banks.of(backbone, compat) if settings.uses_bank else None
    model = get_peft_model(goal.network(backbone, data), settings, bank)
    model.class_names, model.base_checkpoint = data.class_names, source
    model.parts = data.parts.to_dict() if data.parts else None
    model.input = _describe_input(data, config.data)
    return model


def _settings(config: FinetuneConfig) -> PeftConfig:
    assert config.method is not None, "resolved at the beginning"
    return config_class(config.method).from_dict(config.peft)


def _describe_input(data: ShapeData, config: DataConfig) -> dict[str, Any]:
    """What an adapter remembers of its training input."""
    return {
        "transform": data.transform.to_dict(),
        "statistics": data.statistics.to_dict() if data.statistics else None,
        "source": str(Path(config.source).resolve()),
        "split": {"seed": config.seed, "val_fraction": config.val_fraction},
    }


def _report(config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder) -> None:
    """Write the page about a run, if the task has one."""
    if not is_first_process():
        return
    goal.report(run.path, data, training_device(config))
