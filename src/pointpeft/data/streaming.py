"""Shapes made ready for a model one after the other, by several processes, in bounded memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from pointpeft.data.addresses import read_located
from pointpeft.data.cache import geometry_digest
from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.data.reading import RawShape
from pointpeft.data.statistics import InputStatistics
from pointpeft.errors import DataError

__all__ = [
    "ReadyFile",
    "begin_worker",
    "default_workers",
    "in_batches",
    "prepare_chunk",
    "stream_chunks",
    "stream_files",
]

T = TypeVar("T")
Result = TypeVar("Result")

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
        digest: What `geometry_digest` gives of the shape; empty where it is not known.
    """

    file: str
    points: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    digest: str = ""


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
    files: Iterable[str | Path],
    transform: InputTransform,
    statistics: InputStatistics | None = None,
    workers: int = 0,
) -> Iterator[ReadyFile]:
    """Read and prepare files, in their order; never more than some dozens of them are in memory.

    Args:
        files: Meshes and scans: paths, or addresses as `s3://bucket/chair.glb`.
        transform: How to prepare each shape.
        statistics: Of training shapes, to warn of others.
        workers: As for :func:`stream_chunks`.

    Raises:
        DataError: A process has ended, as for lack of memory.
    """
    finish = partial(_ready, transform=transform, statistics=statistics)
    prepare = partial(
        prepare_chunk, read=read_located, prepare=transform.prepare_batch, finish=finish
    )
    return stream_chunks(prepare, map(str, files), workers)


def stream_chunks(
    prepare: Callable[[list[T]], list[Result]],
    items: Iterable[T],
    workers: int = 0,
    name: Callable[[T], str] = str,
) -> Iterator[Result]:
    """Results of items in their order; never more than some dozens of them are in memory.

    Args:
        prepare: Makes the results of some items; other processes must be able to import it.
        items: What is worked on.
        workers: Processes that work ahead; 0 works in this one. A script that asks for some needs
            ``if __name__ == "__main__":`` around its commands.
        name: What a message calls an item.

    Raises:
        DataError: A process has ended, as for lack of memory.
    """
    chunks = in_batches(items, _CHUNK)
    if workers < 1:
        for some in chunks:
            yield from prepare(some)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch
    pool = ProcessPoolExecutor(workers, context, begin_worker)  # begins them as there is work
    waiting: deque[tuple[list[T], Future[list[Result]]]] = deque()
    chunk: list[T] = []
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
            f"from {name(chunk[0])} on; `workers` 0 reads them one after the other"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def begin_worker() -> None:
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


def prepare_chunk(
    items: Sequence[T],
    read: Callable[[T], RawShape],
    prepare: Callable[[Sequence[RawShape]], list[Prepared | DataError]],
    finish: Callable[[T, RawShape | None, Prepared | Exception], Result],
) -> list[Result]:
    """Read items and prepare them together, in parts where they are large.

    Args:
        items: What is read.
        read: Gives the shape of an item; `DataError` and `OSError` are results.
        prepare: See `InputTransform.prepare_batch`.
        finish: Makes a result of an item, its shape, if it could be read, and its prepared form or
            error.
    """
    raw: dict[int, RawShape] = {}
    ready: dict[int, Result] = {}

    def prepare_raw() -> None:
        results = prepare(list(raw.values()))
        for (place, shape), result in zip(raw.items(), results, strict=True):
            ready[place] = finish(items[place], shape, result)
        raw.clear()

    for place, item in enumerate(items):
        try:
            raw[place] = read(item)
        except (DataError, OSError) as error:
            ready[place] = finish(item, None, error)
        if sum(len(shape.points) for shape in raw.values()) > _MOST_RAW:
            prepare_raw()
    prepare_raw()
    return [ready[place] for place in range(len(items))]


def _ready(
    file: str,
    shape: RawShape | None,
    result: Prepared | Exception,
    transform: InputTransform,
    statistics: InputStatistics | None,
) -> ReadyFile:
    if shape is None:
        return ReadyFile(file, error=str(result))
    if not isinstance(result, Prepared):
        return ReadyFile(file, error=f"{shape.source}: {result}")
    differences = statistics.check(shape, transform) if statistics else []
    points = result.points[: transform.num_points].copy()  # without the others
    digest = geometry_digest(shape.points, shape.faces)
    return ReadyFile(file, points, (*result.notes, *differences), digest=digest)
