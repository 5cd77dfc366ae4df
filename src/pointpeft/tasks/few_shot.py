"""Few-shot classification: a fine-tuning run for every episode, mean and deviation over them."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.data import InputTransform, RawShape, ShapeData, ShapeSplit
from pointpeft.data.prepare import Prepared
from pointpeft.data.published import PublishedSplit, make_episode, read_episode
from pointpeft.data.published.episodes import find_episodes
from pointpeft.data.published.protocol import prepare_as_published, whole_split
from pointpeft.data.transforms import pool_size
from pointpeft.errors import ConfigError, DataError
from pointpeft.evaluation.records import output_folder, versions
from pointpeft.files import write_json
from pointpeft.tasks.config import FewShotConfig, FinetuneConfig
from pointpeft.tasks.finetuning import finetune
from pointpeft.tasks.inputs import input_transform, load_data, make_backbone
from pointpeft.tasks.processes import is_first_process

__all__ = ["few_shot"]

log = logging.getLogger("pointpeft")

Episodes = Callable[[int], ShapeData]


def few_shot(
    config: FinetuneConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Tune and test on every episode by itself, each in a sub-folder ``fold<N>``.

    Episodes are the published ones of ModelNet40 where ``data.source`` holds them and no other
    data set is named, else they are drawn from the training and test part of the data. There is
    nothing to validate on: the last epoch counts, and as published the best one on the test part.

    Args:
        config: settings of the runs; ``few_shot.way`` must be set.
        output: folder of all episodes.
        resume: go on where an earlier call stopped.
        progress: called with (done, total) while shapes are read.

    Returns:
        What ``metrics.json`` holds: accuracies of the folds, their mean and deviation.

    Raises:
        ConfigError: inconsistent settings.
        DataError: unusable data, or too few shapes for an episode.
    """
    settings = config.few_shot
    if settings.way is None:
        raise ConfigError("few_shot.way must say how many classes an episode has")
    folder = output_folder(output)
    episode = _episodes(config, progress)
    folds = range(settings.folds) if settings.fold is None else [settings.fold]
    accuracies = {}
    for fold in folds:
        run = folder / f"fold{fold}"
        data = episode(fold)
        single = replace(config, few_shot=FewShotConfig())
        log.info("fold %d: %s", fold, ", ".join(data.class_names))
        going_on = resume and (run / "config.yaml").is_file()
        accuracies[fold] = finetune(single, run, going_on, data=data)["test_accuracy"]
    values = list(accuracies.values())
    metrics = {
        "way": settings.way,
        "shot": settings.shot,
        "folds": list(accuracies),
        "test_accuracy_per_fold": values,
        "test_accuracy": float(np.mean(values)),
        "test_accuracy_std": float(np.std(values)),  # of all folds, as published
        "protocol": config.protocol,
        "versions": versions(),
    }
    if is_first_process():
        write_json(folder / "metrics.json", metrics)
    return metrics


def _episodes(config: FinetuneConfig, progress: Callable[[int, int], None] | None) -> Episodes:
    """What gives the data of each fold."""
    root, settings = Path(config.data.source).expanduser(), config.few_shot
    num_points = make_backbone(config)[0].spec.num_points
    transform = input_transform(config.data, num_points)
    assert settings.way is not None
    way, shot = settings.way, settings.shot
    if config.data.variant is None and root.is_dir() and find_episodes(root):
        return lambda fold: _published(config, root, fold, transform)
    whole = load_data(config.data, num_points, progress, ("test",), protocol=config.protocol)
    if not len(whole.test):
        raise DataError(f"{config.data.source} has no test split to draw the queries from")

    def drawn(fold: int) -> ShapeData:
        seed = config.seed * 1_000 + fold
        made = make_episode(
            whole.train, whole.test, way, shot, settings.queries, seed, whole.class_names
        )
        names = tuple(whole.class_names[number] for number in made.classes)
        return _data(names, made.train, made.test, transform, config.protocol)

    return drawn


def _published(
    config: FinetuneConfig, root: Path, fold: int, transform: InputTransform
) -> ShapeData:
    assert config.few_shot.way is not None
    episode = read_episode(root, config.few_shot.way, config.few_shot.shot, fold)
    names = episode.train.class_names
    if config.protocol == "published":
        train, test = (whole_split(part, transform) for part in (episode.train, episode.test))
        test = prepare_as_published(test, pool_size(transform.num_points))
    else:
        train, test = (_prepared(part, transform) for part in (episode.train, episode.test))
    return _data(names, train, test, transform, config.protocol)


def _prepared(split: PublishedSplit, transform: InputTransform) -> ShapeSplit:
    shapes = [RawShape(cloud, None, id) for cloud, id in zip(split.points, split.ids, strict=True)]
    clouds = []
    for shape, made in zip(shapes, transform.prepare_batch(shapes), strict=True):
        if not isinstance(made, Prepared):
            raise DataError(f"{shape.source}: {made}")
        clouds.append(made.points)
    return ShapeSplit(np.stack(clouds), split.labels, split.ids)


def _data(
    names: tuple[str, ...],
    train: ShapeSplit,
    test: ShapeSplit,
    transform: InputTransform,
    protocol: str,
) -> ShapeData:
    return ShapeData(
        class_names=names,
        train=train,
        val=test if protocol == "published" else test.subset([]),
        test=test,
        unlabelled=test.subset([]),
        transform=transform,
        statistics=None,
        notes=(),
        problems=(),
    )
