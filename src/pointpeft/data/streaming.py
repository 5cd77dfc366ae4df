"""Shapes made ready for a model one after the other, by several processes, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from pointpeft.data.addresses import read_located
from pointpeft.data.cache import geometry_digest
from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.data.reading import RawShape
from pointpeft.data.statistics import InputStatistics
from pointpeft.data.worker_processes import (
    NotStartedError,
    WorkerEndedError,
    WorkerProcess,
    begin_worker,
)
from pointpeft.errors import DataError

__all__ = [
    "ReadyFile",
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
        workers: As for :func:`stream_chunks`; a file that ends a process has that as its error.

    Raises:
        DataError: No process can be started.
    """
    finish = partial(_ready, transform=transform, statistics=statistics)
    prepare = partial(
        prepare_chunk, read=read_located, prepare=transform.prepare_inputs, finish=finish
    )
    return stream_chunks(prepare, map(str, files), _lost_file, workers)


def stream_chunks(
    prepare: Callable[[list[T]], list[Result]],
    items: Iterable[T],
    lost: Callable[[T, str], Result],
    workers: int = 0,
) -> Iterator[Result]:
    """Results of items in their order; never more than some dozens of them are in memory.

    Args:
        prepare: Makes the results of some items; other processes must be able to import it.
        items: What is worked on.
        lost: The result of an item that ends every process which works on it, and a sentence
            that says so.
        workers: Processes that work ahead; 0 works in this one, which an item may then end. A
            script that asks for some needs ``if __name__ == "__main__":`` around its commands.

    Raises:
        DataError: No process can be started.
    """
    chunks = in_batches(items, _CHUNK)
    if workers < 1:
        for some in chunks:
            yield from prepare(some)
        return
    pool = _Pool(prepare, lost, workers)
    waiting: deque[Future[list[Result]]] = deque()
    try:
        waiting.extend(map(pool.submit, islice(chunks, _AHEAD * workers)))
        while waiting:
            ready = waiting.popleft().result()
            waiting.extend(map(pool.submit, islice(chunks, 1)))
            yield from ready
    finally:
        pool.close()


class _Pool(Generic[T, Result]):
    """Processes that work side by side, each for a thread of its own."""

    def __init__(
        self,
        prepare: Callable[[list[T]], list[Result]],
        lost: Callable[[T, str], Result],
        workers: int,
    ) -> None:
        self._threads = ThreadPoolExecutor(workers)
        self._workers = [_Worker(prepare, lost) for _ in range(workers)]
        self._idle: SimpleQueue[_Worker[T, Result]] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def submit(self, items: list[T]) -> "Future[list[Result]]":
        return self._threads.submit(self._work, items)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(cancel_futures=True)

    def _work(self, items: list[T]) -> list[Result]:
        worker = self._idle.get()
        try:
            return worker.work(items)
        finally:
            self._idle.put(worker)


class _Worker(Generic[T, Result]):
    """A process that begins when there is work, and is replaced when an item has ended it."""

    def __init__(
        self, prepare: Callable[[list[T]], list[Result]], lost: Callable[[T, str], Result]
    ) -> None:
        self._prepare, self._lost, self._closed = prepare, lost, False
        self._process: WorkerProcess | None = None

    def work(self, items: list[T]) -> list[Result]:
        """Results of items; if they end the process together, each is tried alone."""
        try:
            return self._ask(items)
        except WorkerEndedError:
            return [] if self._closed else [self._alone(item) for item in items]
        finally:
            if self._closed:
                self.close()  # what was begun meanwhile

    def close(self) -> None:
        """End, also in the middle of work, whose results nobody waits for."""
        self._closed = True
        if self._process is not None:
            self._process.end()

    def _alone(self, item: T) -> Result:
        try:
            (result,) = self._ask([item])
        except WorkerEndedError as error:
            return self._lost(item, str(error))
        return result

    def _ask(self, items: list[T]) -> list[Result]:
        if self._closed:
            raise WorkerEndedError
        self._process = self._process or WorkerProcess(_answer, self._prepare)
        try:
            answer = self._process.ask(items)
        except WorkerEndedError:
            self._process = None
            raise
        except NotStartedError as error:
            raise DataError(
                f"{error}: `workers` 0 reads them in this one; a script that asks for others needs "
                'if __name__ == "__main__":'
            ) from None
        if isinstance(answer, MemoryError):
            raise WorkerEndedError
        if isinstance(answer, Exception):
            raise answer
        return answer


def _answer(connection: Connection, prepare: Callable[[list[Any]], list[Any]]) -> None:
    """What a process does: results of each list of items that comes, or the error they give."""
    begin_worker()
    connection.send("ready")
    while True:
        try:
            items = connection.recv()
        except EOFError:
            return
        try:
            answer: Any = prepare(items)
        except Exception as error:
            answer = error
        connection.send(answer)


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
        prepare: Makes shapes ready, as `InputTransform.prepare_inputs`.
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


def _lost_file(file: str, reason: str) -> ReadyFile:
    return ReadyFile(file, error=f"{file}: {reason}")


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
    digest = geometry_digest(shape.points, shape.faces)
    return ReadyFile(file, result.points, (*result.notes, *differences), digest=digest)
