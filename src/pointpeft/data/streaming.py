"""Files made ready for a model one after the other, by several processes, in bounded memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.data.reading import RawShape, read_shape
from pointpeft.data.statistics import InputStatistics
from pointpeft.errors import DataError

__all__ = ["ReadyFile", "default_workers", "in_batches", "stream_files"]

T = TypeVar("T")

_CHUNK = 16
"""Files that a process reads and puts in farthest point order together."""
_MOST_RAW = 2_000_000
"""Raw points beyond which a chunk is prepared in parts: 48 MB."""
_AHEAD = 3
"""Chunks for each process that are read before they are asked for."""
_MOST_WORKERS = 8
_WORTH_IT = 256
"""Files from which on it pays to start processes, which takes seconds."""
_FEWEST_CORES = 4
"""With fewer ones the model needs them all, and other processes make it slower."""


@dataclass(frozen=True)
class ReadyFile:
    """A file as a model takes it.

    Attributes:
        file: As it was named.
        points: `(num_points, 3)` float32; None if the file cannot be used.
        warnings: What was noticed, and in what the shape differs from the training data.
        error: Why the file cannot be used, or None.
    """

    file: str
    points: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


def default_workers(files: int) -> int:
    """Processes that read so many files: one for each core, up to 8.

    None for fewer than 256 files, or on fewer than four cores.
    """
    usable = getattr(os, "sched_getaffinity", None)  # not on every platform
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    if files < _WORTH_IT or cores < _FEWEST_CORES:
        return 0
    return min(_MOST_WORKERS, cores)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one of what is left."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def stream_files(
    files: Sequence[str | Path],
    transform: InputTransform,
    statistics: InputStatistics | None = None,
    workers: int = 0,
) -> Iterator[ReadyFile]:
    """Read and prepare files, in their order; never more than some dozens of them are in memory.

    Args:
        files: Meshes and scans.
        transform: How to prepare each shape.
        statistics: Of training shapes, to warn of others.
        workers: Processes that read ahead; 0 reads in this one. A script that asks for some needs
            ``if __name__ == "__main__":`` around its commands.

    Raises:
        DataError: A process has ended, as for lack of memory.
    """
    prepare = partial(_prepare_chunk, transform=transform, statistics=statistics)
    chunks = in_batches(map(str, files), _CHUNK)
    workers = min(workers, -(-len(files) // _CHUNK))
    if workers < 1:
        for some in chunks:
            yield from prepare(some)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch
    pool = ProcessPoolExecutor(workers, context, _begin_worker)
    waiting: deque[tuple[list[str], Future[list[ReadyFile]]]] = deque()
    chunk: list[str] = []
    try:
        for following in islice(chunks, _AHEAD * workers):
            waiting.append((following, pool.submit(prepare, following)))
        while waiting:
            chunk, future = waiting.popleft()
            ready = future.result()
            for following in islice(chunks, 1):
                waiting.append((following, pool.submit(prepare, following)))
            yield from ready
    except BrokenProcessPool as error:
        raise DataError(
            f"a process that reads files has ended, perhaps for lack of memory, at one of those "
            f"from {chunk[0]} on; `workers` 0 reads them one after the other"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """One thread; Ctrl-C is the parent's; and it ends with its parent, however that ends."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare_chunk(
    files: Sequence[str], transform: InputTransform, statistics: InputStatistics | None
) -> list[ReadyFile]:
    raw: list[tuple[str, RawShape]] = []
    ready: dict[str, ReadyFile] = {}

    def prepare_raw() -> None:
        results = transform.prepare_batch([shape for _, shape in raw])
        for (file, shape), result in zip(raw, results, strict=True):
            ready[file] = _ready(file, shape, result, transform, statistics)
        raw.clear()

    for file in files:
        try:
            raw.append((file, read_shape(file)))
        except (DataError, OSError) as error:
            ready[file] = ReadyFile(file, error=str(error))
        if sum(len(shape.points) for _, shape in raw) > _MOST_RAW:
            prepare_raw()
    prepare_raw()
    return [ready[file] for file in files]


def _ready(
    file: str,
    shape: RawShape,
    result: Prepared | DataError,
    transform: InputTransform,
    statistics: InputStatistics | None,
) -> ReadyFile:
    if isinstance(result, DataError):
        return ReadyFile(file, error=f"{shape.source}: {result}")
    differences = statistics.check(shape, transform) if statistics else []
    points = result.points[: transform.num_points].copy()  # without the others
    return ReadyFile(file, points, (*result.notes, *differences))
