"""Published data sets as the published training and test loops see them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pointpeft.data.parts import PartTable
from pointpeft.data.prepare import InputTransform
from pointpeft.data.published.dataset import PublishedDataset, PublishedSplit
from pointpeft.data.published.registry import choose_dataset
from pointpeft.data.published.shapenetpart import PART_IDS
from pointpeft.data.published_sampling import PublishedPoints
from pointpeft.data.shapes import ShapeData, ShapeSplit
from pointpeft.data.transforms import pool_size

__all__ = [
    "RaggedSplit",
    "load_as_published",
    "load_unlabelled_as_published",
    "prepare_as_published",
    "whole_split",
]

_BATCH = 64
"""Clouds whose farthest points are found together."""


@dataclass(frozen=True)
class RaggedSplit(ShapeSplit):
    """Clouds of different sizes, of which a fixed number of points is drawn with replacement.

    ``points`` and ``seg`` hold one such draw.

    Attributes:
        clouds: all points of each shape, ``(N_s, 3)``.
        parts: their part labels, ``(N_s,)``.
    """

    clouds: tuple[np.ndarray, ...] = ()
    parts: tuple[np.ndarray, ...] = ()

    def draw(
        self, indices: Sequence[int], generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Another draw of the shapes at ``indices``: points ``(B, N, 3)`` and labels (B, N)."""
        places = [
            generator.integers(len(self.clouds[i]), size=self.points.shape[1]) for i in indices
        ]
        points = [self.clouds[i][chosen] for i, chosen in zip(indices, places, strict=True)]
        labels = [self.parts[i][chosen] for i, chosen in zip(indices, places, strict=True)]
        return np.stack(points), np.stack(labels)


def load_as_published(
    source: str | Path,
    variant: str | None,
    transform: InputTransform,
    train_split: str = "train",
    seed: int = 0,
    farthest: bool = True,
) -> ShapeData | None:
    """A published data set for the published protocol: its test split also serves to validate.

    Training clouds keep all their points in file order; test clouds are in farthest-point order
    from their first point, without points near the origin. Of clouds with part labels points are
    drawn with replacement.

    Args:
        source: folder of published data sets, or of one.
        variant: name of the data set, where there are several.
        transform: number of points, and whether clouds are normalised.
        train_split: split to train on.
        seed: of draws with replacement.
        farthest: put test clouds into farthest-point order; without it they stay in file order.

    Returns:
        None where ``source`` is no folder of published data sets.

    Raises:
        DataError: it is one, but damaged, incomplete or of several data sets.
    """
    path = Path(source).expanduser()
    dataset = _dataset(path, variant)
    if dataset is None:
        return None
    folder = dataset.folder_in(path)
    train, test = (dataset.read(folder, split) for split in (train_split, "test"))
    make = _drawn if dataset.ragged else whole_split
    trained, tested = make(train, transform, seed), make(test, transform, seed + 1)
    if farthest and not dataset.ragged:
        tested = prepare_as_published(tested, pool_size(transform.num_points))
    return ShapeData(
        class_names=train.class_names,
        train=trained,
        val=tested,
        test=tested,
        unlabelled=trained.subset([]) if not dataset.ragged else tested.subset([]),
        transform=transform,
        statistics=None,
        notes=(f"{dataset.title}, {train_split} split, as the published protocol reads it",),
        problems=(),
        parts=_parts(dataset, train.class_names),
    )


def load_unlabelled_as_published(
    source: str | Path, variant: str | None, split: str = "train"
) -> ShapeSplit | None:
    """Clouds for pre-training with all their points, as they are stored.

    Args:
        source: as for :func:`load_as_published`.
        variant: as there.
        split: for instance "train", or "whole", which ShapeNet-55 has.

    Returns:
        None where ``source`` is no folder of published data sets.

    Raises:
        DataError: as there.
    """
    path = Path(source).expanduser()
    dataset = _dataset(path, variant)
    if dataset is None:
        return None
    stored = dataset.read(dataset.folder_in(path), split)
    return ShapeSplit(np.asarray(stored.points, np.float32), stored.labels, stored.ids)


def _dataset(path: Path, variant: str | None) -> PublishedDataset | None:
    """The data set meant, also where it is not: then reading it tells what is expected."""
    named = variant is not None and not path.exists()
    return choose_dataset(path, variant) if path.is_dir() or named else None


def prepare_as_published(split: ShapeSplit, num_points: int) -> ShapeSplit:
    """Clouds in farthest-point order as at published test time; no more than ``num_points``."""
    sample = PublishedPoints(num_points)
    batches = torch.from_numpy(split.points).split(_BATCH)
    return replace(split, points=torch.cat([sample(batch) for batch in batches]).numpy())


def whole_split(split: PublishedSplit, transform: InputTransform, seed: int = 0) -> ShapeSplit:
    """Clouds with all their points in file order, normalised as ``transform`` says."""
    points = np.asarray(split.points, dtype=np.float32)
    if transform.normalize == "unit_ball":
        points = np.stack([_unit_ball(cloud) for cloud in points])
    return ShapeSplit(points, split.labels, split.ids)


def _drawn(split: PublishedSplit, transform: InputTransform, seed: int) -> RaggedSplit:
    clouds = tuple(
        _unit_ball(cloud) if transform.normalize == "unit_ball" else cloud for cloud in split.points
    )
    empty = np.empty((len(split), transform.num_points, 3), np.float32)
    ragged = RaggedSplit(empty, split.labels, split.ids, None, clouds, split.parts or ())
    points, seg = ragged.draw(range(len(split)), np.random.default_rng(seed))
    return replace(ragged, points=points, seg=seg)


def _unit_ball(cloud: np.ndarray) -> np.ndarray:
    centred = cloud - cloud.mean(axis=0)
    return (centred / np.linalg.norm(centred, axis=1).max()).astype(np.float32)


def _parts(dataset: PublishedDataset, class_names: tuple[str, ...]) -> PartTable | None:
    if not dataset.part_names:
        return None
    return PartTable(dataset.part_names, {name: tuple(PART_IDS[name]) for name in class_names})
