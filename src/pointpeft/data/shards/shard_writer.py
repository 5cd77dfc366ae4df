"""Write a data set of any size as shards: a block in memory, a file whole or absent."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from pointpeft.data.cache import geometry_digest, short_digest
from pointpeft.data.chunks import default_workers, stream_chunks
from pointpeft.data.prepare import Axis, InputTransform, Normalization, Prepared
from pointpeft.data.prepared_items import OnError, Problem, Progress
from pointpeft.data.procedural import procedural_shape
from pointpeft.data.reading import RawShape
from pointpeft.data.shapes import PROCEDURAL, SHARD_INDEX, absolute_source, list_shapes
from pointpeft.data.shards.index import BLOCK, Shard, ShardIndex, import_parquet
from pointpeft.data.shards.marks import MARKS, write_marks
from pointpeft.data.splits import Item
from pointpeft.data.streaming import prepare_chunk
from pointpeft.errors import ConfigError, DataError
from pointpeft.files import as_text, replacing
from pointpeft.formats import counted
from pointpeft.output_lock import locked

__all__ = ["write_shards"]

_STORED = 2048
"""Points that are stored of a shape unless another number is asked for."""


@dataclass(frozen=True)
class _Made:
    """A procedural shape that is not made yet, with what is asked of an :class:`Item`."""

    number: int
    seed: int
    num_points: int
    class_name: None = None
    split: None = None
    object_id: None = None

    @property
    def id(self) -> str:
        return f"{PROCEDURAL}/{self.seed}/{self.number:09d}"

    def read(self) -> RawShape:
        points = procedural_shape(self.number, self.seed, self.num_points).points
        return RawShape(points.astype(np.float64), None, self.id)


Listed = Item | _Made
Result = Prepared | Problem


def write_shards(
    source: str | Path,
    folder: str | Path,
    *,
    num_points: int | None = None,
    normalize: Normalization = "unit_ball",
    up_axis: Axis = "y",
    variant: str | None = None,
    procedural: int | None = None,
    shard_size: int = 8192,
    on_error: OnError = "skip",
    seed: int = 0,
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> ShardIndex:
    """Prepare all shapes of a source and write them as Parquet files with an index.

    A row holds the `id`, the `class` and the `split` that the source states, hashes by which the
    shape is known again, and `points`, `(num_points * 3,)` float32, prepared as for training: y up,
    in farthest point order. Pages carry checksums. Which shapes are held out is decided when they
    are trained on. A shard takes its name when it is complete, and the index lists it then.

    Args:
        source: What `load_unlabelled` takes, or "procedural" for shapes of random programs.
        folder: A new or empty folder; with `resume` the one that is to be completed.
        num_points: Points to store of each shape; by default 2048, or as many as an `.npz` holds.
        normalize: See `InputTransform`.
        up_axis: See `InputTransform`.
        variant: Name of a benchmark data set, where the folder holds several.
        procedural: Number of shapes, for that source alone.
        shard_size: Shapes of a file; 8,192 of 2048 points take 200 MB.
        on_error: Whether shapes that cannot be used are left out and listed, or end the writing.
        seed: Of surface sampling, and of procedural shapes.
        workers: Processes that read; by default one for each core, up to 8.
        resume: Go on after the last complete shard.
        progress: Called with the number of shapes done and their total.

    Returns:
        The index, as it is written.

    Raises:
        ConfigError: The folder is not empty, was made of other data or in another way, or is being
            written by another process; a number is too small; pyarrow is missing.
        DataError: The source is missing or not in an expected form, no shape is usable, or
            `on_error="refuse"` and one is not.
        OSError: A shard cannot be written, as on a full disk; those before it are complete.
    """
    import_parquet()  # before anything is read
    if on_error not in get_args(OnError):
        raise ConfigError(f"`on_error` must be skip or refuse, got {on_error!r}")
    for name, value in (("num_points", num_points), ("shard_size", shard_size)):
        if value is not None and value < 1:
            raise ConfigError(f"`{name}` must be at least 1, got {value}")
    folder = Path(folder).expanduser()
    items, stored = _items(source, variant, procedural, num_points, seed)
    transform = InputTransform(stored, normalize, up_axis)
    named = PROCEDURAL if str(source) == PROCEDURAL else absolute_source(source)
    plan = ShardIndex(named, _digest(items), len(items), transform, seed, shard_size)
    with locked(folder):
        index = _begun(folder, plan) if resume else _new(folder, plan)
        index = _write_rest(folder, index, items[index.listed :], on_error, workers, progress)
    if not index.shapes:
        first = index.problems[0]
        raise DataError(f"{source}: no usable shape; {first.item}: {first.reason}")
    return index


def _items(
    source: str | Path,
    variant: str | None,
    procedural: int | None,
    num_points: int | None,
    seed: int,
) -> tuple[Sequence[Listed], int]:
    """The shapes of a source, none of them read, and the number of points to store."""
    if str(source) != PROCEDURAL:
        if procedural is not None:
            raise ConfigError(f"`procedural` is the number of shapes of the source {PROCEDURAL}")
        listing = list_shapes(source, variant)
        return listing.items, num_points or min(_STORED, listing.stored_points or _STORED)
    if procedural is None or procedural < 1:
        raise ConfigError(f"the source {PROCEDURAL} needs `procedural`, the number of shapes")
    stored = num_points or _STORED
    return [_Made(number, seed, stored) for number in range(procedural)], stored


def _digest(items: Sequence[Listed]) -> str:
    """Hash of the names, classes and splits of shapes."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(os.fsencode(f"{item.id}\0{item.class_name}\0{item.split}\n"))
    return digest.hexdigest()


def _new(folder: Path, plan: ShardIndex) -> ShardIndex:
    if (folder / SHARD_INDEX).exists():
        raise ConfigError(f"`output` {folder} holds shards; `resume` goes on, or name another one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"`output` {folder} is not an empty folder; name a new one")
    folder.mkdir(parents=True, exist_ok=True)
    plan.write(folder)
    return plan


def _begun(folder: Path, plan: ShardIndex) -> ShardIndex:
    """The index of a folder that is to be completed, if it belongs to the plan."""
    if not (folder / SHARD_INDEX).is_file():
        raise ConfigError(f"nothing to resume: `output` {folder} holds no {SHARD_INDEX}")
    index = ShardIndex.read(folder)
    differ = [
        name
        for name in ("source", "listing", "transform", "seed", "shard_size", "block")
        if getattr(index, name) != getattr(plan, name)
    ]
    if differ:
        raise ConfigError(
            f"`output` {folder} was begun with another {', '.join(differ)} (listing: the names, "
            "classes and splits of the shapes); to resume leave all as it was, or name another one"
        )
    for shard in index.shards:
        file = folder / shard.file
        if not file.is_file() or file.stat().st_size != shard.size:
            raise DataError(f"{file} is missing or damaged: write into another `output`")
    for file in folder.glob("shard-*.tmp"):  # of a process that was killed
        file.unlink()
    return index


def _write_rest(
    folder: Path,
    index: ShardIndex,
    items: Sequence[Listed],
    on_error: OnError,
    workers: int | None,
    progress: Progress | None,
) -> ShardIndex:
    """Write one shard after the other until all items are dealt with; gives the last index."""
    prepare = partial(_prepare, transform=index.transform, seed=index.seed)
    workers = default_workers(len(items)) if workers is None else workers
    results = zip(items, stream_chunks(prepare, items, _lost, workers), strict=True)
    try:
        while not index.complete:
            index = _write_shard(folder, index, results, on_error, progress)
            index.write(folder)
        if index.shapes and not (folder / MARKS).is_file():
            write_marks(folder, index)
    except OSError as error:  # Arrow's do not name the file
        raise OSError(
            f"{folder} cannot be written: {error}; {counted(len(index.shards), 'shard')} complete, "
            "make room and go on with `resume`"
        ) from error
    return index


def _write_shard(
    folder: Path,
    index: ShardIndex,
    results: Iterator[tuple[Listed, Result]],
    on_error: OnError,
    progress: Progress | None,
) -> ShardIndex:
    """Write the next shard, of the next results; gives the index that lists it."""
    path = folder / f"shard-{len(index.shards):05d}.parquet"
    listed, shapes, problems = index.listed, 0, list(index.problems)
    with replacing(path) as temporary:
        with _BlockWriter(temporary, index) as write:
            while shapes < index.shard_size and listed < index.total:
                item, result = next(results)
                if isinstance(result, Problem):
                    if on_error == "refuse":
                        raise DataError(f"{index.source}: {result.item}: {result.reason}")
                    problems.append(result)
                else:
                    write(item, result)
                    shapes += 1
                listed += 1
                if progress is not None:
                    progress(listed, index.total)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    shard = Shard(path.name, shapes, path.stat().st_size, sha256)
    if not shapes:  # all that were left cannot be used
        path.unlink()
    shards = (*index.shards, shard) if shapes else index.shards
    return replace(index, listed=listed, shards=shards, problems=tuple(problems))


class _BlockWriter:
    """Collects shapes and writes them to a Parquet file a block at a time; a context manager."""

    def __init__(self, path: Path, index: ShardIndex) -> None:
        self._arrow, parquet = import_parquet()
        text, points = self._arrow.string(), index.transform.num_points
        values = self._arrow.list_(self._arrow.float32(), 3 * points)
        names = ("id", "class", "split", "digest", "object")
        self._schema = self._arrow.schema([*((name, text) for name in names), ("points", values)])
        self._rows: list[tuple[Listed, Prepared]] = []
        self._file = parquet.ParquetWriter(
            path, self._schema, compression="none", use_dictionary=["class", "split"],
            write_statistics=False, write_page_checksum=True,
        )  # fmt: skip

    def __enter__(self) -> Callable[[Listed, Prepared], None]:
        return self._add

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._file.close()

    def _add(self, item: Listed, prepared: Prepared) -> None:
        self._rows.append((item, prepared))
        if len(self._rows) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        points = np.stack([one.points for _, one in self._rows]).astype(np.float32)
        type_ = self._schema.field("points").type
        columns = [
            as_text([item.id for item, _ in self._rows]),
            as_text([item.class_name for item, _ in self._rows]),
            [item.split for item, _ in self._rows],
            [one.digest for _, one in self._rows],
            [item.object_id and short_digest(item.object_id) for item, _ in self._rows],
            self._arrow.FixedSizeListArray.from_arrays(points.reshape(-1), type=type_),
        ]
        self._file.write_table(self._arrow.table(columns, schema=self._schema))
        self._rows.clear()


def _lost(item: Listed, reason: str) -> Result:
    return Problem(item.id, reason)


def _prepare(items: list[Listed], transform: InputTransform, seed: int) -> list[Result]:
    prepare = partial(transform.prepare_batch, num_stored=transform.num_points, seed=seed)
    return prepare_chunk(items, _read, prepare, _finish)


def _read(item: Listed) -> RawShape:
    return item.read()


def _finish(item: Listed, shape: RawShape | None, result: Prepared | Exception) -> Result:
    if shape is None or not isinstance(result, Prepared):
        origin = item.origin if isinstance(item, Item) else item.id
        return Problem(item.id, str(result).removeprefix(f"{origin}: "))
    return replace(result, digest=geometry_digest(shape.points, shape.faces))
