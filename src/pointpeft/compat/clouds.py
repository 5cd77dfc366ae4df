"""Published data sets as the published loops see them, and which points of a cloud a model sees."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, BenchmarkSplit, RaggedSplit
from pointpeft.data.benchmarks.shapenet import PART_IDS
from pointpeft.data.benchmarks.stored import find_stored
from pointpeft.data.cache import geometry_digest, short_digest
from pointpeft.data.parts import EXPECTED_PARTS, PartTable
from pointpeft.data.prepare import InputTransform
from pointpeft.data.prepared_items import Progress
from pointpeft.data.shape_data import ShapeData, ShapeSplit
from pointpeft.data.transforms import (
    Choice,
    Compose,
    RandomRotation,
    RandomScaleShift,
    RandomSubset,
    Transform,
    pool_size,
    random_order,
    recipe,
)
from pointpeft.errors import DataError
from pointpeft.ops import farthest_point_sample, gather_points
from pointpeft.training.config import DataConfig

__all__ = [
    "PublishedPoints",
    "PublishedSubset",
    "UnitBall",
    "load_as_published",
    "load_unlabelled_as_published",
    "part_table",
    "prepare_as_published",
    "published_recipe",
    "whole_split",
]


@dataclass(frozen=True)
class PublishedPoints:
    """Farthest points of every cloud, as at test time; the sampler never takes points near 0.

    Attributes:
        num_points: points to keep.
    """

    num_points: int

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(B, N, 3)`` -> ``(B, num_points, 3)`` in farthest-point order, or all if N is less."""
        return gather_points(points, self.choose(points, generator))

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Places of the chosen points, ``(B, num_points)``."""
        count = min(self.num_points, points.shape[1])
        return farthest_point_sample(points, count, skip_near_origin=True)


@dataclass(frozen=True)
class PublishedSubset(PublishedPoints):
    """Points of a training cloud: somewhat more farthest points, of which a part is drawn.

    Farthest-point sampling begins at a random point, since the points of a cloud are shuffled
    first; the ranks that are drawn are the same for all clouds of a batch, in random order.
    """

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Places of the chosen points, ``(B, num_points)``."""
        order = random_order(points, generator)
        candidates = PublishedPoints(pool_size(self.num_points)).choose(
            gather_points(points, order)
        )
        device = points.device if generator is None else generator.device
        ranks = torch.randperm(candidates.shape[1], generator=generator, device=device)
        return order.gather(1, candidates[:, ranks[: self.num_points].to(points.device)])


@dataclass(frozen=True)
class UnitBall:
    """Every cloud moved to its mean and scaled to a largest norm of 1."""

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(B, N, 3)`` -> ``(B, N, 3)``."""
        centred = points - points.mean(dim=1, keepdim=True)
        return centred / centred.norm(dim=2).amax(dim=1)[:, None, None]


def published_recipe(name: str | None, num_points: int, task: str = "classification") -> Compose:
    """The training transform of the published protocol, for clouds with all their points.

    Differs from :func:`pointpeft.data.transforms.recipe` in how points are chosen, and in turning
    a whole batch by one angle with "scale-rotate". Pre-training draws points without farthest-point
    sampling and normalises what it drew; part segmentation finds its points drawn already. A scan,
    which no paper trains on, makes points of its own of all that are stored.

    Args:
        name: as there.
        num_points: points the model sees.
        task: "classification", "part_segmentation" or "pretraining".
    """
    choice, *augmentation = recipe(name, num_points).steps
    if not isinstance(choice, Choice):
        return Compose((choice, *augmentation))
    if name == "scale-rotate":
        augmentation = [RandomScaleShift((0.9, 1.1), 0.0), RandomRotation("y", per_sample=False)]
    chosen: dict[str, tuple[Transform, ...]] = {
        "classification": (PublishedSubset(num_points),),
        "part_segmentation": (),
        "pretraining": (RandomSubset(num_points, None), UnitBall()),
    }
    return Compose((*chosen[task], *augmentation))


_BATCH = 64
"""Clouds whose farthest points are found together."""


def load_as_published(
    config: DataConfig,
    transform: InputTransform,
    farthest: bool = True,
    segmented: bool = False,
    progress: Progress | None = None,
) -> ShapeData | None:
    """A published data set for the published protocol: its test split also serves to validate.

    Training clouds keep all their points in file order; test clouds are in farthest-point order
    from their first point, without points near the origin. Of clouds with part labels points are
    drawn with replacement.

    Args:
        config: a folder of published data sets, or of one, or an ``.npz`` converted from one; the
            split to train on, and the seed of draws with replacement.
        transform: number of points, and whether clouds are normalised.
        farthest: put test clouds into farthest-point order; without it they stay in file order.
        segmented: whether every point must have a part label.
        progress: called with the number of shapes read of a split and their total.

    Returns:
        None where ``config.source`` is nothing of a published data set.

    Raises:
        DataError: it is one, but damaged, incomplete, of several data sets or without part labels,
            or a shape has no extent or points that are not finite.
    """
    stored = find_stored(Path(config.source).expanduser(), config.variant)
    if stored is None:
        return None
    dataset = stored.dataset
    if segmented and not dataset.part_names:
        raise DataError(f"{config.source}: {dataset.title} has no part labels; {EXPECTED_PARTS}")
    train, test = (stored.read(split, progress) for split in (config.train_split, "test"))
    trained, tested = (
        replace(
            _drawn(split, transform, config.seed)
            if dataset.ragged
            else whole_split(split, transform),
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
        notes=_notes(dataset, config.train_split, train),
        problems=(),
        parts=part_table(dataset, train.class_names),
        title=dataset.title,
        family=dataset.family,
        selects_on="test",
    )


def load_unlabelled_as_published(
    source: str | Path, variant: str | None, split: str = "train", progress: Progress | None = None
) -> ShapeSplit | None:
    """Clouds for pre-training with all their points, as they are stored.

    Args:
        source: folder or file, as for :func:`load_as_published`.
        variant: name of the data set, where there are several.
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
    points = torch.cat([sample(batch) for batch in batches]).numpy()
    return replace(split, points=points, in_file_order=False)


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
    return ShapeSplit(points, split.labels, split.ids, in_file_order=True)


def _drawn(split: BenchmarkSplit, transform: InputTransform, seed: int) -> RaggedSplit:
    _check_usable(split)
    ball = transform.normalize == "unit_ball"
    clouds = tuple(_unit_ball(cloud) if ball else cloud for cloud in split.points)
    empty = np.empty((len(split), transform.num_points, 3), np.float32)
    ragged = RaggedSplit(empty, split.labels, split.ids, clouds=clouds, parts=split.parts or ())
    return ragged.redrawn(seed)


def _check_usable(split: BenchmarkSplit) -> None:
    if problem := next(split.unusable(), None):
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


def part_table(dataset: BenchmarkDataset, class_names: Sequence[str]) -> PartTable | None:
    """The parts of every class, in the order of the labels; None where shapes have none."""
    if not dataset.part_names:
        return None
    return PartTable(dataset.part_names, {name: tuple(PART_IDS[name]) for name in class_names})
