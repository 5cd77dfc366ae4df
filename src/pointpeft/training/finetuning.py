"""Adapting a backbone to labelled shapes: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pointpeft.data import ShapeData
from pointpeft.process_state import undisturbed
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.few_shot import few_shot
from pointpeft.training.processes import quiet_other_processes
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.seeds import train_seeds
from pointpeft.training.sources import PASSED

__all__ = ["finetune"]

log = logging.getLogger("pointpeft")


@undisturbed()
def finetune(
    config: FinetuneConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
) -> dict[str, Any]:
    """Adapt a backbone to a labelled data set and write a run folder.

    The checkpoint is chosen on the validation split; the test split is used once, at the end.
    Another protocol may choose on the test split, and says so. Of several processes the first one
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
    run = ResolvedRun.of(config)  # fails before reading data
    if data is not None:
        run = run.having(_with_source_of(run.config, data))
    if run.config.few_shot.way is None:
        return train_seeds(run, output, resume, progress, data)
    return few_shot(run, output, resume, progress, data)


def _with_source_of(config: FinetuneConfig, data: ShapeData) -> FinetuneConfig:
    """A config that says where the data came from that was passed."""
    source = data.source or PASSED
    return replace(config, data=replace(config.data, source=source, variant=data.variant))
