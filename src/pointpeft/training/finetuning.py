"""Adapting a backbone to labelled shapes: data in, run folder out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pointpeft.compat.protocol import find_protocol
from pointpeft.data import ShapeData
from pointpeft.errors import ConfigError
from pointpeft.process_state import undisturbed
from pointpeft.tasks.table import find_task
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.few_shot import few_shot
from pointpeft.training.processes import quiet_other_processes
from pointpeft.training.run import method_settings
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
    config = _resolve(config)  # fails before reading data
    if data is not None:
        config = _with_source_of(config, data)
    if config.few_shot.way is None:
        return train_seeds(config, output, resume, progress, data)
    return few_shot(config, output, resume, progress, data)


def _with_source_of(config: FinetuneConfig, data: ShapeData) -> FinetuneConfig:
    """A config that says where the data came from that was passed."""
    source = data.source or PASSED
    return replace(config, data=replace(config.data, source=source, variant=data.variant))


def _resolve(config: FinetuneConfig) -> FinetuneConfig:
    """The config with what suits its task, method and protocol in place of all left open."""
    task = find_task(config.task)
    if not task.votes and config.votes:
        raise ConfigError("votes is for classification: parts are not voted for")
    if not task.votes and config.few_shot.way is not None:
        raise ConfigError("few_shot.way is for classification: episodes have no parts")
    config = replace(config, method=config.method or task.method)
    config = find_protocol(config.protocol).resolve(config)
    settings = method_settings(config)  # complains of an unknown method or setting
    lr = config.optimizer.lr or task.learning_rate(settings)
    return replace(
        config,
        optimizer=replace(config.optimizer, lr=lr),
        data=replace(config.data, augmentation=config.data.augmentation or task.augmentation),
    )
