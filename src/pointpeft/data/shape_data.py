"""Prepared shapes in memory: of one split, and of a data set in all its parts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pointpeft.data.cache import geometry_digest, pack_digests
from pointpeft.data.mesh_files import MeshFile
from pointpeft.data.parts import PartTable
from pointpeft.data.prepare import InputTransform
from pointpeft.data.prepared_items import Problem
from pointpeft.data.statistics import InputStatistics

__all__ = ["ShapeData", "ShapeSplit", "UnlabelledShapes"]

T = TypeVar("T")


@dataclass(frozen=True)
class ShapeSplit:
    """Prepared shapes of one part of a data set.

    Attributes:
        points: `(S, N, 3)` float32, y up, each cloud in farthest point order.
        labels: `(S,)` int64, places in the class names; -1 without a label.
        ids: Item names.
        seg: `(S, N)` int64, the part label of every point, if part labels were asked for.
        digests: What `geometry_digest` gives of each shape in its raw form, by which it is known
            again wherever it lies; empty where it is not known.
        objects: Hashes of what the objects of a benchmark data set are called, which it holds in
            several forms; empty for other data.
        meshes: Where the faces of each shape are, None of a cloud; empty where there are none, or
            where they were not asked for.
        in_file_order: Whether points stand as in the file, and not in farthest point order.
    """

    points: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    seg: np.ndarray | None = None
    digests: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    meshes: tuple[MeshFile | None, ...] = ()
    in_file_order: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ShapeSplit":
        """The shapes at `indices`, in that order; a mask `(S,)` of bool serves too."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        seg = None if self.seg is None else self.seg[chosen]

        def pick(of_all: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(of_all[place] for place in chosen) if of_all else ()

        return ShapeSplit(
            self.points[chosen], self.labels[chosen], pick(self.ids), seg,
            pick(self.digests), pick(self.objects), pick(self.meshes), self.in_file_order,
        )  # fmt: skip

    def marks(self) -> frozenset[str]:
        """All that the shapes are known by; of shapes without digests, as they are here."""
        digests = self.digests or map(geometry_digest, self.points)
        return frozenset((*digests, *self.objects))

    def among(self, marks: Collection[str]) -> np.ndarray:
        """Which of the shapes are known by one of `marks`, `(S,)` bool."""
        found = np.zeros(len(self), dtype=bool)
        for own in (self.digests, self.objects):
            if own:
                found |= np.array([mark in marks for mark in own])
        return found

    @classmethod
    def joined(cls, splits: Sequence["ShapeSplit"]) -> "ShapeSplit":
        """All shapes of several splits, one split after the other; at least one must be given."""
        first = splits[0]
        return cls(
            np.concatenate([split.points for split in splits]),
            np.concatenate([split.labels for split in splits]),
            tuple(name for split in splits for name in split.ids),
            None if first.seg is None else np.concatenate([split.seg for split in splits]),
            tuple(digest for split in splits for digest in split.digests),
            tuple(name for split in splits for name in split.objects),
            tuple(mesh for split in splits for mesh in split.meshes or [None] * len(split)),
            any(split.in_file_order for split in splits),
        )


@dataclass(frozen=True)
class UnlabelledShapes(ShapeSplit):
    """Shapes for pre-training, with what was noticed while they were read."""

    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class ShapeData:
    """A labelled data set in its parts.

    Attributes:
        class_names: In label order.
        train: To fit on.
        val: To choose settings and checkpoints by.
        test: To measure once.
        unlabelled: Shapes without a class, often none.
        transform: How the shapes were prepared.
        statistics: Of the raw training shapes; None without any.
        notes: What was decided or noticed.
        problems: Items left out because they cannot be used.
        parts: What part labels stand for, if they were asked for.
        cut: Parts, of "val" and "test", that the source does not state: they were cut from train.
        title: By which people know a benchmark data set; None for others.
        source: Where it was read from: an absolute path, or "homeobjects"; None: it was made here.
        variant: Which benchmark data set was named, if one was.
        selects_on: Split that a run on the data chooses its epoch on: "val", which may be empty, or
            "test" where the papers' code does, and `val` is that one.
        family: Of benchmark data sets, those that hold the same objects share it, and split them
            in the same way; None for other data.
    """

    class_names: tuple[str, ...]
    train: ShapeSplit
    val: ShapeSplit
    test: ShapeSplit
    unlabelled: ShapeSplit
    transform: InputTransform
    statistics: InputStatistics | None
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    parts: PartTable | None = None
    cut: frozenset[str] = frozenset()
    title: str | None = None
    source: str | None = None
    variant: str | None = None
    family: str | None = None
    selects_on: str = "val"

    def digests(self) -> dict[str, str]:
        """What the shapes of each split are known by, see `pack_digests`.

        Without "val" where it is the test split.
        """
        splits = {"train": self.train, "val": self.val, "test": self.test}
        if self.selects_on == "test":
            del splits["val"]
        return {name: pack_digests(split.marks()) for name, split in splits.items()}

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in label order; none without part labels."""
        return self.parts.names if self.parts else ()
