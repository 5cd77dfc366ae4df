"""Published data sets as the published training and test loops see them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pointpeft.compat.augmentation import PublishedPoints
from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, BenchmarkSplit
from pointpeft.data.benchmarks.ragged import RaggedSplit
from pointpeft.data.benchmarks.shapenetpart import PART_IDS
from pointpeft.data.benchmarks.stored import find_stored
from pointpeft.data.identity import geometry_digest, short_digest
from pointpeft.data.loading import Progress
from pointpeft.data.parts import EXPECTED_PARTS, PartTable
from pointpeft.data.prepare import InputTransform
from pointpeft.data.shape_data import ShapeData, ShapeSplit
from pointpeft.data.transforms import pool_size
from pointpeft.errors import DataError

__all__ = [
    "load_as_published",
    "load_unlabelled_as_published",
    "prepare_as_published",
    "whole_split",
]

_BATCH = 64
"""Clouds whose farthest points are found together."""


def load_as_published(
    source: str | Path,
    variant: str | None,
    transform: InputTransform,
    train_split: str = "train",
    seed: int = 0,
    farthest: bool = True,
    segmented: bool = False,
    progress: Progress | None = None,
) -> ShapeData | None:
    """A published data set for the published protocol: its test split also serves to validate.

    Training clouds keep all their points in file order; test clouds are in farthest-point order
    from their first point, without points near the origin. Of clouds with part labels points are
    drawn with replacement.

    Args:
        source: folder of published data sets, or of one, or an ``.npz`` converted from one.
        variant: name of the data set, where there are several.
        transform: number of points, and whether clouds are normalised.
        train_split: split to train on.
        seed: of draws with replacement.
        farthest: put test clouds into farthest-point order; without it they stay in file order.
        segmented: whether every point must have a part label.
        progress: called with the number of shapes read of a split and their total.

    Returns:
        None where ``source`` is nothing of a published data set.

    Raises:
        DataError: it is one, but damaged, incomplete, of several data sets or without part labels,
            or a shape has no extent or points that are not finite.
    """
    stored = find_stored(Path(source).expanduser(), variant)
    if stored is None:
        return None
    dataset = stored.dataset
    if segmented and not dataset.part_names:
        raise DataError(f"{source}: {dataset.title} has no part labels; {EXPECTED_PARTS}")
    train, test = (stored.read(split, progress) for split in (train_split, "test"))
    trained, tested = (
        replace(
            _drawn(split, transform, seed) if dataset.ragged else whole_split(split, transform),
            digests=tuple(map(geometry_digest, split.points)),
            objects=tuple(short_digest(dataset.object_id(id)) for id in split.ids),
        )
        for split in (train, test)
    )
    if farthest and not dataset.ragged:
        tested = prepare_as_published(tested, pool_size(transform.num_points))
    return ShapeData(
        class_names=train.class_names,
        train=trained,
        val=tested,
        test=tested,
        unlabelled=tested.subset([]),
        transform=transform,
        statistics=None,
        notes=_notes(dataset, train_split, train),
        problems=(),
        parts=_parts(dataset, train.class_names),
        title=dataset.title,
        family=dataset.family,
        selects_on="test",
    )


def load_unlabelled_as_published(
    source: str | Path, variant: str | None, split: str = "train", progress: Progress | None = None
) -> ShapeSplit | None:
    """Clouds for pre-training with all their points, as they are stored.

    Args:
        source: as for :func:`load_as_published`.
        variant: as there.
        split: for instance "train", or "whole", which ShapeNet-55 has.
        progress: as there.

    Returns:
        None where ``source`` is nothing of a published data set.

    Raises:
        DataError: as there, or clouds differ in size.
    """
    stored = find_stored(Path(source).expanduser(), variant)
    if stored is None:
        return None
    if stored.dataset.ragged:
        raise DataError(
            f"{source}: clouds of {stored.dataset.title} differ in size, and nothing is published "
            "that pre-trains on them; take protocol=honest or another data set"
        )
    return whole_split(stored.read(split, progress), InputTransform(normalize="none"))


def prepare_as_published(split: ShapeSplit, num_points: int) -> ShapeSplit:
    """Clouds in farthest-point order as at published test time; no more than ``num_points``."""
    sample = PublishedPoints(num_points)
    batches = torch.from_numpy(split.points).split(_BATCH)
    return replace(split, points=torch.cat([sample(batch) for batch in batches]).numpy())


def whole_split(split: BenchmarkSplit, transform: InputTransform) -> ShapeSplit:
    """Clouds with all their points in file order, normalised as ``transform`` says.

    Raises:
        DataError: a shape has no extent, or points that are not finite.
    """
    _check_usable(split)
    points = np.asarray(split.points, dtype=np.float32)
    if transform.normalize == "unit_ball":
        stored, points = points, np.empty_like(points)
        for place, cloud in enumerate(stored):
            points[place] = _unit_ball(cloud)
    return ShapeSplit(points, split.labels, split.ids)


def _drawn(split: BenchmarkSplit, transform: InputTransform, seed: int) -> RaggedSplit:
    _check_usable(split)
    clouds = tuple(
        _unit_ball(cloud) if transform.normalize == "unit_ball" else cloud for cloud in split.points
    )
    empty = np.empty((len(split), transform.num_points, 3), np.float32)
    ragged = RaggedSplit(empty, split.labels, split.ids, clouds=clouds, parts=split.parts or ())
    return ragged.redrawn(seed)


def _check_usable(split: BenchmarkSplit) -> None:
    problem = next(split.unusable(), None)
    if problem is not None:
        raise DataError(
            f"{problem}; `pointpeft data check` lists all such shapes, and protocol=honest leaves "
            "them out"
        )


def _unit_ball(cloud: np.ndarray) -> np.ndarray:
    centred = cloud - cloud.mean(axis=0)
    return (centred / np.linalg.norm(centred, axis=1).max()).astype(np.float32)


def _notes(dataset: BenchmarkDataset, split: str, train: BenchmarkSplit) -> tuple[str, ...]:
    note = f"{dataset.title}, as the published protocol reads it"
    if split != "train":
        note += f"; trained on its {split} split"
    size, reduced = len(train.points[0]), dataset.reduced_to
    if reduced is None or size <= reduced:
        return (note,)
    return (
        note,
        f"clouds have all their {size:,} points, of which the published code keeps the {reduced:,} "
        "farthest ones; `pointpeft data convert` writes a file of these",
    )


def _parts(dataset: BenchmarkDataset, class_names: tuple[str, ...]) -> PartTable | None:
    if not dataset.part_names:
        return None
    return PartTable(dataset.part_names, {name: tuple(PART_IDS[name]) for name in class_names})
