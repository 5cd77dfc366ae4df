"""What a benchmark data set is: its splits, the order of its shapes, and how they are read."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pointpeft.data.benchmarks.source_files import Layout
from pointpeft.data.prepare import check_geometry
from pointpeft.data.prepared_items import Progress, reported
from pointpeft.data.shape_data import ShapeData, ShapeSplit
from pointpeft.errors import DataError

__all__ = ["BenchmarkDataset", "BenchmarkSplit", "Cloud", "Entries", "RaggedSplit", "redraw"]


class Cloud(NamedTuple):
    """One shape as stored: points `(N, 3)` float32, and their part ids `(N,)` int64 or None."""

    points: np.ndarray
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class BenchmarkSplit:
    """The shapes of a split as they are stored, in released order.

    Attributes:
        points: `(S, N, 3)` float32, not normalised; where clouds differ in size, one `(N_s, 3)`
            array for each shape.
        labels: `(S,)` int64, places in the class names.
        ids: Item names.
        class_names: In label order.
        parts: For each shape the part ids `(N_s,)` int64 of its points; None without parts.
    """

    points: np.ndarray | tuple[np.ndarray, ...]
    labels: np.ndarray
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    parts: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def unusable(self) -> Iterator[str]:
        """The shapes no model can see, with their name and what is wrong, one at a time."""
        for id, points in zip(self.ids, self.points, strict=True):
            try:
                check_geometry(points)
            except DataError as error:
                yield f"{id}: {error}"


@dataclass(frozen=True)
class Entries:
    """The shapes of a split in released order; those with a file each are not read yet.

    Attributes:
        ids: Item names, unique in the data set.
        labels: `(S,)` int64, places in the class names.
        class_names: In label order.
        sources: A file for each shape, or all points `(S, N, 3)` float32.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    sources: tuple[Path, ...] | np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class BenchmarkDataset(Layout, ABC):
    """A data set in the layout its owners or the papers' code gave it.

    Attributes:
        name: By which it is asked for.
        counts: Published number of shapes of each split, in the order the splits are listed.
        class_names: In label order.
        unions: Further splits, made of others.
        ragged: Whether clouds may differ in size.
        part_names: Names of all part ids; empty without parts.
        reduced_to: Farthest points to which the papers' code reduces larger clouds before it
            uses them; None where it takes clouds as they are stored.
    """

    name: str
    counts: Mapping[str, int]
    class_names: tuple[str, ...]
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ragged: bool = False
    part_names: tuple[str, ...] = ()
    reduced_to: int | None = None

    @abstractmethod
    def entries(self, folder: Path, split: str) -> Entries:
        """The shapes of a split.

        Args:
            folder: What `folder_in` found.
            split: One of `counts` or `unions`.

        Raises:
            DataError: A file is missing, damaged or not in the form of its release.
        """

    def read_file(self, path: Path) -> Cloud:
        """One of the files that `entries` named."""
        raise NotImplementedError(f"{self.name} keeps no file for each shape")

    def object_id(self, id: str) -> str:
        """What the object of an item is called in all variants that lie in one folder."""
        return f"{self.folder}/{id}"

    @property
    def family(self) -> str:
        """What the data sets have in common that hold the same objects and split them alike.

        Their names begin with it: `scanobjectnn` has three variants, `modelnet40` two forms.
        """
        return self.name.partition("_")[0]

    def parts_of(self, split: str) -> tuple[str, ...]:
        """The splits that make up one of `counts` or `unions`, in released order.

        Raises:
            DataError: There is no such split.
        """
        if split not in self.counts and split not in self.unions:
            known = ", ".join([*self.counts, *self.unions])
            raise DataError(f"split={split!r}: {self.title} has {known}")
        return self.unions.get(split, (split,))

    def order(self, ids: Sequence[str], labels: np.ndarray) -> Sequence[int]:
        """Places, in released order, of shapes that come part by part of a split."""
        return range(len(ids))

    def cloud(self, source: Path | np.ndarray) -> Cloud:
        """A shape from one of the sources of `Entries`."""
        return self.read_file(source) if isinstance(source, Path) else Cloud(source)

    def clouds(self, sources: Iterable[Path | np.ndarray]) -> Iterator[Cloud]:
        """Shapes from sources of `Entries`, each read when its turn comes.

        Raises:
            DataError: A shape is damaged, or of another size than the first although none should.
        """
        size = None
        for source in sources:
            cloud = self.cloud(source)
            size = size or len(cloud.points)
            if len(cloud.points) != size and not self.ragged:
                where = source if isinstance(source, Path) else self.title
                raise DataError(
                    f"{where}: {len(cloud.points)} points, the shapes before have {size}; all of "
                    f"{self.title} have the same number, so a file may be cut short"
                )
            yield cloud

    def read(self, folder: Path, split: str, progress: Progress | None = None) -> BenchmarkSplit:
        """All shapes of a split.

        Args:
            folder: What `folder_in` found.
            split: One of `counts` or `unions`.
            progress: Called with the number of shapes read and their total.

        Raises:
            DataError: As for `entries` and `clouds`.
        """
        entries = self.entries(folder, split)
        sources, about = entries.sources, (entries.labels, entries.ids, entries.class_names)
        if isinstance(sources, np.ndarray):
            return BenchmarkSplit(sources, *about)
        clouds = reported(self.clouds(sources), len(sources), progress)
        if self.ragged:
            all_points, all_parts = zip(*clouds, strict=True)
            return BenchmarkSplit(all_points, *about, all_parts if self.part_names else None)
        points = np.empty((0, 0, 3), np.float32)
        for place, cloud in enumerate(clouds):
            if place == 0:  # all are of its size; together they would not fit in memory twice
                points = np.empty((len(sources), *cloud.points.shape), np.float32)
            points[place] = cloud.points
        return BenchmarkSplit(points, *about)


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

    def draw(self, numbers: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points ``(B, N, 3)`` and labels ``(B, N)`` of draws that depend on nothing else.

        Args:
            numbers: ``k * S + i`` is draw ``k`` of shape ``i`` of the ``S`` shapes.
            seed: of all draws.
        """
        points, seg = [], []
        for number in numbers:
            shape, generator = number % len(self), np.random.default_rng((seed, number))
            chosen = generator.integers(len(self.clouds[shape]), size=self.points.shape[1])
            points.append(self.clouds[shape][chosen])
            seg.append(self.parts[shape][chosen])
        return np.stack(points), np.stack(seg)

    def redrawn(self, seed: int) -> "RaggedSplit":
        """The same clouds; ``points`` and ``seg`` hold the first draw of another seed."""
        points, seg = self.draw(range(len(self)), seed)
        return replace(self, points=points, seg=seg)


def redraw(data: ShapeData, seed: int) -> ShapeData:
    """The same data with the first draw of ``seed`` where clouds differ in size."""
    if not isinstance(data.train, RaggedSplit) or not isinstance(data.test, RaggedSplit):
        return data
    test = data.test.redrawn(seed)
    return replace(data, train=data.train.redrawn(seed), val=test, test=test)
