"""Shapes of shards, read a block at a time, when they are asked for."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.data.prepare import InputTransform
from pointpeft.data.prepared_items import OnError, Problem
from pointpeft.data.shards.index import ShardIndex, import_parquet
from pointpeft.data.shards.marks import read_marks
from pointpeft.data.splits import Item, cut_parts, left_to_train
from pointpeft.errors import ConfigError, DataError
from pointpeft.formats import enumerate_names

__all__ = ["WINDOW", "ShardedShapes", "load_sharded"]

WINDOW = 16
"""Blocks that a process holds, and whose shapes are shuffled together: 4,096 shapes."""


@dataclass(frozen=True, eq=False)
class ShardedShapes:
    """Shapes of a folder of shards, of which only hashes are in memory.

    It is what a :class:`ShapeSplit` is, but for its points, which :meth:`read` gives.

    Attributes:
        folder: Where the shards lie.
        index: What they hold.
        numbers: `(S,)` int64, which of all their shapes these are, ascending.
        digests: See :class:`ShapeSplit`.
        objects: See :class:`ShapeSplit`.
        notes: What the user should know.
        problems: Shapes that are not there, or shards that could not be read.
    """

    folder: Path
    index: ShardIndex
    numbers: np.ndarray
    digests: tuple[str, ...]
    objects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    _held: OrderedDict[tuple[int, int], np.ndarray] = field(default_factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def marks(self) -> frozenset[str]:
        """All that the shapes are known by."""
        return frozenset((*self.digests, *self.objects)) - {""}

    def among(self, marks: Collection[str]) -> np.ndarray:
        """Which of the shapes are known by one of `marks`, `(S,)` bool."""
        return np.array([digest in marks for digest in self.digests], dtype=bool)

    def subset(self, mask: np.ndarray) -> "ShardedShapes":
        """The shapes at which a mask `(S,)` is true."""
        digests, objects = (
            tuple(each for each, kept in zip(marks, mask, strict=True) if kept) if marks else ()
            for marks in (self.digests, self.objects)
        )
        return replace(
            self, numbers=self.numbers[mask], digests=digests, objects=objects, _held=OrderedDict()
        )

    @cached_property
    def points(self) -> np.ndarray:
        """All clouds `(S, N, 3)` float32, in memory.

        Raises:
            DataError: One cannot be read.
        """
        points, problems = self.read(range(len(self)), self.index.transform.num_points)
        if problems:
            raise DataError("; ".join(problems))
        return points

    def blocks(self) -> list[np.ndarray]:
        """Places `(n,)` of the shapes of each block, in their order."""
        shards, rows = self._locate(np.arange(len(self)))
        block = np.stack([shards, rows // self.index.block])
        return np.split(np.arange(len(self)), np.flatnonzero(np.diff(block).any(axis=0)) + 1)

    def read(self, places: Sequence[int], num_points: int) -> tuple[np.ndarray, list[str]]:
        """The first points of some shapes.

        Blocks are kept, the latest 16 of them. A shape of a block that cannot be read is replaced
        by one of the others that are asked for.

        Args:
            places: In `range(len(self))`.
            num_points: Of each cloud, at most those that are stored.

        Returns:
            Points `(len(places), num_points, 3)` float32, and what could not be read, in words.

        Raises:
            DataError: None of the shapes can be read.
        """
        shards, rows = self._locate(places)
        keys = list(zip(shards.tolist(), (rows // self.index.block).tolist(), strict=True))
        clouds = np.empty((len(keys), num_points, 3), np.float32)
        readable, problems = np.zeros(len(keys), dtype=bool), []
        for key in dict.fromkeys(keys):
            chosen = np.array([key == each for each in keys])
            try:
                block = self._block(key, num_points)
            except DataError as error:
                problems.append(f"{error}{self._extent(key)}")
                continue
            clouds[chosen] = block[rows[chosen] % self.index.block]
            readable |= chosen
        if len(keys) and not readable.any():
            raise DataError("; ".join(problems))
        good = np.flatnonzero(readable)
        for turn, place in enumerate(np.flatnonzero(~readable)):
            clouds[place] = clouds[good[turn % len(good)]]
        return clouds, problems

    def names(self, places: Sequence[int]) -> list[str]:
        """Shard and name of some shapes; where these cannot be read, shard and row."""
        found = []
        for shard, row in zip(*self._locate(places), strict=True):
            file, key = self.index.shards[shard].file, (int(shard), int(row) // self.index.block)
            try:
                name = self._read(key, "id")[int(row) % self.index.block].as_py()
            except DataError:
                name = f"row {row}"
            found.append(f"{file}: {name}")
        return found

    def _locate(self, places: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard and row of shapes."""
        numbers = self.numbers[np.asarray(places, dtype=np.int64)]  # of none, too
        ends = np.cumsum([shard.shapes for shard in self.index.shards])
        shards = np.searchsorted(ends, numbers, side="right")
        return shards, numbers - np.concatenate([[0], ends])[shards]

    def _block(self, key: tuple[int, int], num_points: int) -> np.ndarray:
        held = self._held.pop(key, None)
        if held is None or held.shape[1] < num_points:
            held = self._clouds(key)[:, :num_points].copy()  # without the others
        self._held[key] = held
        if len(self._held) > WINDOW:
            self._held.popitem(last=False)
        return held[:, :num_points]

    def _clouds(self, key: tuple[int, int]) -> np.ndarray:
        """All points of the shapes of a block, `(n, N, 3)`."""
        lists, N = self._read(key, "points"), self.index.transform.num_points
        arrow, _ = import_parquet()
        if lists.type != (written := arrow.list_(arrow.float32(), 3 * N)):
            raise self._damaged(key, f"points are of type {lists.type}, not {written}")
        flat = lists.combine_chunks().flatten()
        if flat.null_count or len(flat) != 3 * N * len(lists) or not np.isfinite(flat).all():
            raise self._damaged(key, "points are missing or not finite")
        return flat.to_numpy().reshape(-1, N, 3)

    def _extent(self, key: tuple[int, int]) -> str:
        """The first and the last shape of a block by name, where they can be read."""
        try:
            names = self._read(key, "id")
        except DataError:
            return ""
        return f" (shapes {names[0].as_py()} to {names[-1].as_py()})"

    def _read(self, key: tuple[int, int], column: str) -> Any:
        """A column of a block.

        Raises:
            DataError: It is damaged; the message names file and rows.
        """
        shard, rows = self.index.shards[key[0]], self._rows(key)
        try:
            file = _open(self.folder / shard.file)
            found = file.read_row_group(key[1], [column], use_threads=False).column(column)
        except (OSError, ValueError, LookupError) as error:  # of Arrow, too
            raise self._damaged(key, str(error)) from error
        if len(found) != len(rows):
            raise self._damaged(key, f"{len(found)} shapes in place of {len(rows)}")
        return found

    def _rows(self, key: tuple[int, int]) -> range:
        """Rows of a block in its shard."""
        first = key[1] * self.index.block
        return range(first, min(first + self.index.block, self.index.shards[key[0]].shapes))

    def _damaged(self, key: tuple[int, int], reason: str) -> DataError:
        rows = self._rows(key)
        file = self.index.shards[key[0]].file
        return DataError(f"{file}, rows {rows[0]} to {rows[-1]}: {reason}")


def _open(path: Path) -> Any:
    return import_parquet()[1].ParquetFile(path, page_checksum_verification=True)


def load_sharded(
    folder: str | Path,
    transform: InputTransform,
    *,
    on_error: OnError = "skip",
    val_fraction: float = 0.2,
    seed: int = 0,
) -> ShardedShapes:
    """The shapes of shards that pre-training may see; of their points none is read.

    Those for validation or testing are left out as by :func:`load_unlabelled`.

    Args:
        folder: What :func:`write_shards` wrote.
        transform: What the model expects; shards that were prepared in another way are refused.
        on_error: Whether a shard that cannot be read is left out and reported, or refused.
        val_fraction: As for :func:`load_unlabelled`.
        seed: As for :func:`load_unlabelled`.

    Raises:
        ConfigError: The shards were prepared in another way, or pyarrow is missing.
        DataError: They are not complete, hold nothing to train on, or are so damaged that it is
            not known which shapes are held out.
    """
    import_parquet()
    folder = Path(folder).expanduser()
    index = ShardIndex.read(folder)
    if not index.complete:
        raise DataError(
            f"{folder} is not complete: {index.listed:,} of {index.total:,} shapes are dealt with; "
            "go on with the same command and --resume"
        )
    _check_transform(folder, index.transform, transform)
    found, problems = read_marks(folder, index)
    if problems and (on_error == "refuse" or len(problems) == len(index.shards)):
        raise DataError("; ".join(f"{folder / each.item}: {each.reason}" for each in problems))
    kept, notes = _to_train(found, val_fraction, seed)
    if not kept.any():
        raise DataError(f"{folder}: all shapes are for validation or testing, none to train on")
    if index.problems:
        names = enumerate_names(problem.item for problem in index.problems)
        notes.append(f"{len(index.problems)} shapes could not be used when it was made: {names}")
    objects = [name for name in found["object"] if name]
    whole = ShardedShapes(
        folder, index, np.arange(index.shapes), tuple(found["digest"]),
        tuple(found["object"]) if len(objects) == index.shapes else (), tuple(notes),
        tuple(problems),
    )  # fmt: skip
    return whole if kept.all() else whole.subset(kept)


def _check_transform(folder: Path, stored: InputTransform, asked: InputTransform) -> None:
    if asked.normalize != stored.normalize:
        raise ConfigError(
            f"data.normalize={asked.normalize}: the shards in {folder} were prepared with "
            f"{stored.normalize}"
        )
    if asked.up_axis != "y":
        raise ConfigError(
            f"data.up_axis={asked.up_axis}: shards hold shapes with y up; give it to `data shard`"
        )
    if asked.num_points > stored.num_points:
        raise ConfigError(
            f"the model sees {asked.num_points} points (data.num_points), the shards in {folder} "
            f"hold {stored.num_points}: write them with more points"
        )


def _to_train(
    found: dict[str, list], val_fraction: float, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Which shapes are neither stated nor cut to be for validation and testing, and notes."""
    kept = np.array([split not in ("val", "test") for split in found["split"]], dtype=bool)
    notes = [] if kept.all() else [f"{int((~kept).sum())} validation and test shapes left out"]
    needed = cut_parts(found["split"])
    if not needed or not any(found["class"]):  # nothing to cut, or nothing to cut by
        return kept, notes
    left = np.flatnonzero(kept)
    items = [Item("", found["class"][row], found["split"][row], Path()) for row in left]
    digests = [found["digest"][row] for row in left]
    kept[kept], cut_notes = left_to_train(items, digests, val_fraction, seed, needed)
    return kept, [*notes, *cut_notes]
