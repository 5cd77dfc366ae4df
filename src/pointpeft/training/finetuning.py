"""Adapting a backbone to labelled shapes: one data set, or the episodes of a few-shot benchmark."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.data import InputTransform, ShapeData, ShapeSplit
from pointpeft.data.benchmarks import make_episode, read_episode
from pointpeft.data.benchmarks.episodes import EPISODES
from pointpeft.data.benchmarks.modelnet import MODELNET40
from pointpeft.data.cache import geometry_digest
from pointpeft.data.shapes import absolute_source
from pointpeft.errors import ConfigError, DataError
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.process_state import undisturbed
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.inputs import load_data, make_backbone
from pointpeft.training.processes import is_first_process, quiet_other_processes
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.run import train_seeds
from pointpeft.training.run_folder import RunFolder
from pointpeft.training.sources import PASSED
from pointpeft.training.unlabelled import input_transform

__all__ = ["few_shot", "finetune"]

log = logging.getLogger("pointpeft")

_FOLD = "fold"
"""Name of the folder of an episode, before its number."""
_TITLE = "ModelNet40 few-shot"
"""By which people know the published episodes."""


def few_shot(
    resolved: ResolvedRun,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
) -> dict[str, Any]:
    """Tune and test on every episode by itself, each in a sub-folder ``fold<N>``.

    Episodes are the published ones of ModelNet40 where ``data.source`` holds them and no other
    data set is named, else they are drawn from the training and test part of the data. There is
    nothing to validate on: the last epoch counts, or in the papers the best one on the test part.
    Folds may be run one by one in the same folder: what is summed up is all that is finished there.

    Arguments and errors are those of :func:`finetune`; no fold is trained before all of them are
    known to be there. Returns the accuracies of the folds, their mean and deviation.
    """
    run, config = RunFolder(output), resolved.config
    chosen = config.few_shot.fold
    folds = range(config.few_shot.folds) if chosen is None else [chosen]
    _prepare(run, config, resume)
    with run.logging():
        episode = _episodes(resolved, progress, data, folds)
        run.begin(config)  # now that there is data
        results = {}
        for place, fold in enumerate(folds):
            shapes = episode(fold)
            classes = ", ".join(shapes.class_names)
            log.info("fold %d, %d of %d: %s", fold, place + 1, len(folds), classes)
            single = RunFolder(_folder(run, fold))
            going_on = resume and single.config.is_file()
            of_fold = resolved.having(_of_fold(config, fold))
            results[fold] = train_seeds(of_fold, single.path, going_on, data=shapes)
        metrics = _summarize(config, _finished(run, config) | results)
        if is_first_process():
            write_json(run.metrics, metrics)
    return metrics


def _prepare(run: RunFolder, config: FinetuneConfig, resume: bool) -> None:
    """Create the folder of all episodes, or check that it is of the same ones."""
    if run.checkpoints.is_dir():
        raise ConfigError(
            f"{run.path} holds a single run, such as that of an episode; name the folder of all of "
            "them as `output`"
        )
    fold = config.few_shot.fold
    if fold is not None and run.config.is_file():  # folds may be run one by one
        resume = resume or not RunFolder(_folder(run, fold)).config.is_file()
    run.prepare(config, resume)


def _folder(run: RunFolder, fold: int) -> Path:
    return run.path / f"{_FOLD}{fold}"


def _of_fold(config: FinetuneConfig, fold: int) -> FinetuneConfig:
    """Settings of the run of one fold, the same however many are run."""
    return replace(config, few_shot=replace(config.few_shot, fold=fold, folds=1))


def _finished(run: RunFolder, config: FinetuneConfig) -> dict[int, dict[str, Any]]:
    """Metrics of the folds that were run to their end with these settings."""
    found: dict[int, Any] = {}
    for folder in run.path.glob(f"{_FOLD}*"):
        fold = folder.name.removeprefix(_FOLD)
        if fold.isdecimal():
            of_fold = _of_fold(config, int(fold))
            found[int(fold)] = RunFolder(folder).finished_metrics(of_fold)
    return {fold: metrics for fold, metrics in found.items() if metrics}


def _summarize(config: FinetuneConfig, results: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    folds = sorted(results)
    values = [results[fold]["test_accuracy"] for fold in folds]
    # A single one has no spread over folds: the interval says how sure it is.
    kept = ("test_items", "test_accuracy_interval") if len(folds) == 1 else ()
    return {
        **{key: results[folds[0]][key] for key in kept if key in results[folds[0]]},
        "way": config.few_shot.way,
        "shot": config.few_shot.shot,
        "folds": folds,
        "test_accuracy_per_fold": values,
        "test_accuracy": float(np.mean(values)),
        "test_accuracy_std": float(np.std(values)),  # of all folds, as in the papers
        "protocol": config.protocol,
        "versions": versions(),
    }


def _episodes(
    resolved: ResolvedRun,
    progress: Callable[[int, int], None] | None,
    data: ShapeData | None,
    folds: Sequence[int],
) -> Callable[[int], ShapeData]:
    """What gives the data of each fold; complains now if one of ``folds`` cannot be had."""
    config = resolved.config
    root, settings = Path(config.data.source).expanduser(), config.few_shot
    num_points = make_backbone(config)[0].spec.num_points
    transform = data.transform if data else input_transform(config.data, num_points)
    assert settings.way is not None
    way, shot = settings.way, settings.shot
    if data is None and config.data.variant is None and root.is_dir() and EPISODES.find(root):
        for fold in folds:
            read_episode(root, way, shot, fold)
        return lambda fold: _of_files(resolved, root, fold, transform)
    whole = data or load_data(
        config.data, num_points, progress, ("test",), protocol=resolved.protocol
    )
    if not len(whole.test):
        raise DataError(f"{config.data.source} has no test split to draw the queries from")

    def drawn(fold: int) -> ShapeData:
        seed = config.seed * 1_000 + fold
        made = make_episode(
            whole.train, whole.test, way, shot, settings.queries, seed, whole.class_names
        )
        names = tuple(whole.class_names[number] for number in made.classes)
        return _data(
            names, made.train, made.test, transform,
            title=whole.title, source=whole.source, variant=whole.variant, family=whole.family,
        )  # fmt: skip

    for fold in folds:
        drawn(fold)
    return drawn


def _of_files(resolved: ResolvedRun, root: Path, fold: int, transform: InputTransform) -> ShapeData:
    settings = resolved.config.few_shot
    assert settings.way is not None
    episode = read_episode(root, settings.way, settings.shot, fold)
    stored = episode.train, episode.test
    train, test = (
        replace(shapes, digests=tuple(map(geometry_digest, part.points)))
        for shapes, part in zip(resolved.protocol.episode(*stored, transform), stored, strict=True)
    )
    return _data(
        episode.train.class_names, train, test, transform,
        title=_TITLE, source=absolute_source(root), family=MODELNET40.family,
    )  # fmt: skip


def _data(
    names: tuple[str, ...],
    train: ShapeSplit,
    test: ShapeSplit,
    transform: InputTransform,
    **origin: str | None,
) -> ShapeData:
    """The data of an episode; ``origin`` are the attributes that say where it is from."""
    none = test.subset([])
    return ShapeData(names, train, none, test, none, transform, None, (), (), **origin)  # type: ignore[arg-type]


@undisturbed()
def finetune(
    config: FinetuneConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data: ShapeData | None = None,
    report: bool = True,
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
        report: whether the run is held to a linear SVM and shown in ``report.html``; of one of many
            runs both may take longer than the training. It is not for episodes.

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
        return train_seeds(run, output, resume, progress, data, report)
    return few_shot(run, output, resume, progress, data)


def _with_source_of(config: FinetuneConfig, data: ShapeData) -> FinetuneConfig:
    """A config that says where the data came from that was passed."""
    source = data.source or PASSED
    return replace(config, data=replace(config.data, source=source, variant=data.variant))
