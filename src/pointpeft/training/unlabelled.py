"""Clouds for pre-training: read, cut where some are held out, and what is done to them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pointpeft.data import InputTransform, ShapeData, ShapeSplit, load_unlabelled
from pointpeft.data.cache import short_digest
from pointpeft.data.shape_data import UnlabelledShapes
from pointpeft.data.shapes import PROCEDURAL
from pointpeft.data.shards import ShardedShapes, is_sharded, load_sharded
from pointpeft.data.transforms import SCAN, Transform, pool_size, recipe
from pointpeft.errors import ConfigError
from pointpeft.training.config import DataConfig, PretrainConfig
from pointpeft.training.protocol import Protocol

__all__ = ["PretrainingData", "load_pretraining_data", "stored_points"]

log = logging.getLogger("pointpeft")

_NO_LABELS = np.empty(0, dtype=np.int64)
Stored = ShapeSplit | ShardedShapes
_NONE = "none"  # the recipe that leaves clouds as they are


@dataclass(frozen=True)
class PretrainingData:
    """What a run trains on, and what it does not.

    Attributes:
        train: clouds to train on; may be empty, or in shards.
        augmentation: what is done to them at every access.
        num_points: points of a cloud before that.
        held_out: clouds of which there is none in ``train``; None where they are not asked for.
        draw: makes of them what the network sees, without augmentation.
        split: name of the split that they are held out as, "val" or "test".
        known: what the stored clouds are known by, and those that the model was trained on before.
    """

    train: Stored
    augmentation: Transform
    num_points: int
    held_out: Stored | None
    draw: Transform
    split: str = "val"
    known: frozenset[str] = frozenset()


def load_pretraining_data(
    config: PretrainConfig,
    num_points: int,
    protocol: Protocol,
    progress: Callable[[int, int], None] | None = None,
) -> PretrainingData:
    """Read the data of a config, logging notes and problems.

    Shapes are held out if ``config.validate_every`` asks for them: the share
    ``config.data.val_fraction``, unless the protocol reads the data in its own way. The network
    sees ``num_points`` of each.

    Raises:
        ConfigError: inconsistent settings.
        DataError: unusable data.
    """
    if (found := protocol.read_unlabelled(config, num_points, progress)) is not None:
        return found
    train, held_out = _prepared(config, num_points, progress), None
    if config.procedural and len(train) and config.data.normalize == "none":
        log.warning(
            "data.normalize=none: %s is taken in its own unit, beside procedural shapes, which lie "
            "in the unit ball", config.data.source,
        )  # fmt: skip
    stored = stored_points(train)
    if config.validate_every is not None:
        train, held_out = _cut(train, config)
    augmentation = config.data.augmentation
    ranks = stored if augmentation == SCAN else min(pool_size(num_points), stored)
    return PretrainingData(
        train, recipe(augmentation, num_points), ranks, held_out, recipe(_NONE, num_points)
    )


def stored_points(shapes: Stored) -> int:
    """Points of each shape that are stored."""
    if isinstance(shapes, ShardedShapes):
        return shapes.index.transform.num_points
    return shapes.points.shape[1]


def _prepared(
    config: PretrainConfig, num_points: int, progress: Callable[[int, int], None] | None
) -> Stored:
    if config.data.source == PROCEDURAL:
        if not config.procedural:
            raise ConfigError("data.source=procedural needs procedural=N, the shapes of an epoch")
        scanned = config.data.augmentation == SCAN  # of as many points as are stored of files
        made = 2 * num_points if scanned else pool_size(num_points)
        return ShapeSplit(np.empty((0, made, 3), np.float32), _NO_LABELS, ())
    data, transform = config.data, input_transform(config.data, num_points)
    how: Any = {"on_error": data.on_error, "val_fraction": data.val_fraction, "seed": data.seed}
    shapes = (
        load_sharded(data.source, transform, **how)
        if is_sharded(data.source)
        else load_unlabelled(data.source, transform, variant=data.variant, progress=progress, **how)
    )
    tell_of(shapes, data.source, logging.INFO)
    return shapes


def input_transform(config: DataConfig, num_points: int) -> InputTransform:
    """How shapes are prepared for a model that expects ``num_points``."""
    return InputTransform(
        num_points=num_points if config.num_points is None else config.num_points,
        normalize=config.normalize,  # type: ignore[arg-type]
        up_axis=config.up_axis,  # type: ignore[arg-type]
    )


def tell_of(shapes: ShapeData | UnlabelledShapes | ShardedShapes, source: str, level: int) -> None:
    """Log what was noticed while shapes were read, at ``level``, and those that were skipped."""
    for note in shapes.notes:
        log.log(level, "%s: %s", source, note)
    for problem in shapes.problems:
        log.warning("skipped %s: %s", problem.item, problem.reason)


def _cut(shapes: Stored, config: PretrainConfig) -> tuple[Stored, Stored]:
    """The shapes to train on, and those held out, by their content alone."""
    count = round(config.data.val_fraction * len(shapes))
    if not 0 < count < len(shapes):
        raise ConfigError(
            f"validate_every holds out data.val_fraction={config.data.val_fraction} of "
            f"{len(shapes)} stored shapes, which leaves one side without any"
        )
    order = sorted(shapes.digests, key=lambda digest: short_digest(f"{config.data.seed}/{digest}"))
    held_out = shapes.among(set(order[:count]))  # copies of a shape stay together
    return shapes.subset(~held_out), shapes.subset(held_out)
