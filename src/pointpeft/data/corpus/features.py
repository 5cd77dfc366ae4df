"""Features of a corpus, which stay in their files: a search maps them into memory.

Parquet is for tables, and its values are encoded: it cannot be mapped. So the features are copied
once into an array of NumPy beside the shards, the simplest file that can, in which a block of rows
is a slice. Names of shapes are read from the list of files when they are shown.
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pointpeft.data.corpus.shard_folder import FEATURES, REMEDY, ShardFolder
from pointpeft.data.feature_files import StoredFeatures
from pointpeft.errors import DataError

__all__ = [
    "MAPPED_FEATURES",
    "feature_values",
    "features_folder",
    "read_corpus_features",
    "read_shards",
]

MAPPED_FEATURES = "_mapped/features.npy"
"""The array in a folder of features that is mapped, once there is one."""
_ARRAYS = ("features.npy", "labels.npy", "rows.npy")
"""``(S, C)`` float16, ``(S,)`` int64, and the places ``(S,)`` of the shapes among the files."""
_BLOCKS = 64
"""Blocks of the list of files that are kept in memory once they were read."""


def features_folder(path: str | Path) -> ShardFolder:
    """A folder of features in which every file has its row.

    Raises:
        DataError: there is none, its rows are no features, or shards are missing.
    """
    folder = ShardFolder.open(path)
    if folder.made_by.get("kind") != FEATURES:
        raise DataError(f"{path} holds other rows than features: `pointpeft embed` makes those")
    folder.check_done()
    return folder


def read_shards(folder: ShardFolder, columns: Sequence[str]) -> Iterator[Any]:
    """The Arrow table of every shard in turn, with some of its columns.

    Raises:
        DataError: a shard is damaged.
    """
    for shard in range(folder.shards):
        yield folder.read(shard, columns)


def feature_values(table: Any, place: Path, channels: int | None = None) -> NDArray[np.float16]:
    """Features ``(S, C)`` of the rows of a table.

    Args:
        table: of Arrow, with a column "feature" of lists.
        place: what a message calls it.
        channels: how many numbers each is to have; None: as many as the first one.

    Raises:
        DataError: one has another number of them.
    """
    column = table["feature"].combine_chunks()
    lengths = set(column.value_lengths().to_pylist()) | ({channels} - {None})
    if len(lengths) > 1 or None in lengths:
        found = " and ".join(map(str, lengths))
        raise DataError(f"{place} is damaged: features of {found} numbers; {REMEDY}")
    values: NDArray[np.float16] = column.flatten().to_numpy()
    return values.reshape(len(table), -1)


def read_corpus_features(path: str | Path) -> StoredFeatures:
    """Features of the usable shapes of a folder, mapped into memory.

    The first time, the arrays are written beside the shards.

    Raises:
        DataError: as for :func:`features_folder`, or no shape is usable.
    """
    folder = features_folder(path)
    mapped = (folder.path / MAPPED_FEATURES).parent
    if not _is_current(mapped, folder):
        _write_arrays(mapped, folder)
    try:
        features, labels, rows = (np.load(mapped / name, mmap_mode="r") for name in _ARRAYS)
    except (OSError, ValueError) as error:
        raise DataError(f"{mapped} is damaged, remove it: {error}") from error
    about = {
        "model": folder.made_by.get("model"),
        "source": {"root": folder.place, "variant": None},
    }
    return StoredFeatures(features, _Names(folder, rows), labels, folder.files.classes, about)


class _Names(Sequence[str]):
    """What the shapes are called, read when it is asked for."""

    def __init__(self, folder: ShardFolder, rows: NDArray[np.int64]) -> None:
        self._folder, self._rows = folder, rows
        self._files_of = lru_cache(_BLOCKS)(folder.files_of)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        shard, within = divmod(int(self._rows[place]), self._folder.shard_size)
        return self._folder.files.id(self._files_of(shard)[within].file)


def _is_current(mapped: Path, folder: ShardFolder) -> bool:
    """Whether the arrays were written after the last shard."""
    if not mapped.is_dir():
        return False
    made = (mapped / _ARRAYS[0]).stat().st_mtime
    return all(folder.part(shard).stat().st_mtime <= made for shard in range(folder.shards))


def _write_arrays(mapped: Path, folder: ShardFolder) -> None:
    """Copy what is mapped, a shard at a time."""
    files = (folder.size_of(shard) - folder.failed(shard) for shard in range(folder.shards))
    usable, start = sum(files), 0
    if not usable:
        raise DataError(f"{folder.path}: no usable shape; the column `error` says why")
    with _replacing_folder(mapped) as new:
        arrays: list[np.memmap] = []
        for blocks in _usable_blocks(folder):
            arrays = arrays or [
                np.lib.format.open_memmap(new / name, "w+", block.dtype, (usable, *block.shape[1:]))
                for name, block in zip(_ARRAYS, blocks, strict=True)
            ]
            stop = start + len(blocks[0])
            for array, block in zip(arrays, blocks, strict=True):
                array[start:stop] = block
            start = stop
        for array in arrays:
            array.flush()


def _usable_blocks(folder: ShardFolder) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """What is mapped of the shapes of each shard that has usable ones."""
    number = {name: label for label, name in enumerate(folder.files.classes)}
    first, channels = 0, None
    for shard, table in enumerate(read_shards(folder, ["class", "feature", "error"])):
        usable = table["error"].is_null()
        kept, rows = table.filter(usable), first + np.flatnonzero(usable.to_numpy())
        first += len(table)
        if len(kept):
            values = feature_values(kept, folder.part(shard), channels)
            channels = values.shape[1]
            labels = np.array([number.get(name, -1) for name in kept["class"].to_pylist()])
            yield values, labels, rows


@contextmanager
def _replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` only on success."""
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    new.mkdir()
    try:
        yield new
        shutil.rmtree(path, ignore_errors=True)
        new.rename(path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
