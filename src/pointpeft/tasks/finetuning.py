"""Adapting a backbone to labelled shapes: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pointpeft.data import ShapeData
from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.evaluation.report.page import REPORT
from pointpeft.files import write_json
from pointpeft.process_state import undisturbed
from pointpeft.tasks.announcing import announce_data
from pointpeft.tasks.banks import Banks, training_device
from pointpeft.tasks.classification import Classification
from pointpeft.tasks.config import FinetuneConfig
from pointpeft.tasks.goal import Goal
from pointpeft.tasks.inputs import load_data, make_backbone, note_shapes_seen_before
from pointpeft.tasks.one_seed import method_settings, train_one_seed
from pointpeft.tasks.processes import is_first_process, quiet_other_processes
from pointpeft.tasks.protocol import as_published
from pointpeft.tasks.results import summarize
from pointpeft.tasks.runs import RunFolder
from pointpeft.tasks.segmentation import PartSegmentation
from pointpeft.tasks.sources import PASSED

__all__ = ["finetune", "tune"]

log = logging.getLogger("pointpeft")

PUBLISHED_NOTICE = (
    "published protocol: the epoch is selected on the test split, so the accuracy is an upper bound"
)
_GOALS: dict[str, Goal] = {goal.name: goal for goal in (Classification(), PartSegmentation())}


@undisturbed()
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

    A line now and then, or a bar on a terminal, tells how far it is. What was found and what is
    done with it goes to ``log.txt`` and to the logger ``pointpeft``, at level INFO:
    ``logging.basicConfig(level=logging.INFO)`` shows it.

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
    if data is not None:
        config = _with_source_of(config, data)
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
    if finished and page.is_file():
        larger = "trainer.epochs" + (" or trainer.patience" if config.trainer.patience else "")
        log.info("%s had ended: nothing is trained; a larger %s goes on", run.path, larger)
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


def _with_source_of(config: FinetuneConfig, data: ShapeData) -> FinetuneConfig:
    """A config that says where the data came from that was passed."""
    source = data.source or PASSED
    return replace(config, data=replace(config.data, source=source, variant=data.variant))


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
    settings = method_settings(config)  # complains of an unknown method or setting
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
    if config.protocol == "published":
        data = replace(data, val=data.test)
    announce_data(config.data.source, data)
    return note_shapes_seen_before(data, source)


def _all_seeds(
    config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder, resume: bool
) -> dict[str, Any]:
    """Train with each seed, and sum up where there are several."""
    banks = Banks(data, config)
    if config.seeds == 1:
        return train_one_seed(config, goal, data, run, resume, banks)
    jobs = {run.path / f"seed{s}": s for s in range(config.seed, config.seed + config.seeds)}
    results = [
        train_one_seed(
            replace(config, seed=seed, seeds=1), goal, data, RunFolder(folder), resume, banks
        )
        for folder, seed in jobs.items()
    ]
    return summarize(results, list(jobs), run, goal)


def _report(config: FinetuneConfig, goal: Goal, data: ShapeData, run: RunFolder) -> None:
    """Write the page about a run."""
    if not is_first_process():
        return
    goal.report(run.path, data, training_device(config))
