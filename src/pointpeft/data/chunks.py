"""Work on items chunk by chunk, by several processes, in order and in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from pointpeft.data.worker_processes import (
    NotStartedError,
    WorkerEndedError,
    WorkerProcess,
    begin_worker,
)
from pointpeft.errors import DataError

__all__ = ["default_workers", "in_batches", "stream_chunks"]

T = TypeVar("T")
Result = TypeVar("Result")

_CHUNK = 16
"""Items that a process works on together; of files, those put in farthest point order at once."""
_AHEAD = 3
"""Chunks for each process that are worked on before they are asked for."""
_MOST_WORKERS = 8
_WORTH_IT = 256
"""Files from which on it pays to start processes, which takes seconds."""
_FEWEST_CORES = 4
"""With fewer ones the model needs them all, and other processes make it slower."""


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
