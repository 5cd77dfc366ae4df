"""A run with all its seeds, of one resolved config: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pointpeft.data import ShapeData
from pointpeft.files import write_json
from pointpeft.measure.report.page import REPORT, write_run_report
from pointpeft.training.announcing import announce_data
from pointpeft.training.banks import Banks, training_device
from pointpeft.training.inputs import load_data, make_backbone, note_shapes_seen_before
from pointpeft.training.processes import is_first_process
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.results import summarize
from pointpeft.training.run import train_one_seed
from pointpeft.training.run_folder import RunFolder

__all__ = ["train_seeds"]

log = logging.getLogger("pointpeft")


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
