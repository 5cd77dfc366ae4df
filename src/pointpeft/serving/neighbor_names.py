"""Names and points of the training shapes that adapters remember, found beside the requests."""

import logging
import threading
from multiprocessing.connection import Connection
from typing import Any

from pointpeft.data import InputTransform
from pointpeft.data.shapes import check_source
from pointpeft.data.worker_processes import (
    NotStartedError,
    WorkerEndedError,
    WorkerProcess,
    begin_worker,
)
from pointpeft.measure.familiarity import Familiarity
from pointpeft.measure.named_shapes import NamedShape, find_shapes

__all__ = ["NeighborNames"]

log = logging.getLogger("pointpeft")


class NeighborNames:
    """Reads training data in a process of its own, however much there is.

    Until a shape is found, it goes by its hash. What cannot be read is logged.

    Args:
        source: the training data.

    Raises:
        DataError: it is not there.
    """

    def __init__(self, source: str) -> None:
        check_source(source)
        self._source, self._lock, self._closed = source, threading.Lock(), False
        self._waiting: list[tuple[Familiarity, InputTransform]] = []
        self._thread: threading.Thread | None = None
        self._process: WorkerProcess | None = None

    def add(self, memory: Familiarity, transform: InputTransform) -> None:
        """Have the shapes of a memory looked for from the next :meth:`begin` on."""
        with self._lock:
            self._waiting.append((memory, transform))

    def begin(self) -> None:
        """Look for the shapes of what was added; this returns at once."""
        with self._lock:
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End, also in the middle of reading."""
        self._closed = True
        if self._process is not None:
            self._process.end()

    def _run(self) -> None:
        while memories := self._next():
            transform = memories[0][1]
            known = frozenset[str]().union(*(memory.known for memory, _ in memories))
            found = self._find(transform, known)
            for memory, _ in memories:
                own = memory.known.intersection(found)
                memory.named.update((mark, found[mark]) for mark in own)

    def _next(self) -> list[tuple[Familiarity, InputTransform]]:
        """Memories of one transform, whose shapes are looked for together."""
        with self._lock:
            if self._closed or not self._waiting:
                self._thread = None
                return []
            transform = self._waiting[0][1]
            some = [one for one in self._waiting if one[1] == transform]
            self._waiting = [one for one in self._waiting if one[1] != transform]
            return some

    def _find(self, transform: InputTransform, known: frozenset[str]) -> dict[str, NamedShape]:
        self._process = WorkerProcess(_answer)
        try:
            found = self._process.ask((self._source, transform, known))
        except (WorkerEndedError, NotStartedError) as error:
            found = error
        finally:
            self._process.end()
        if isinstance(found, dict):
            return found
        if not self._closed:
            log.warning("training shapes have no names: %s", found)
        return {}


def _answer(connection: Connection) -> None:
    """What the process does."""
    begin_worker()
    connection.send("ready")
    source, transform, known = connection.recv()
    try:
        answer: Any = find_shapes(source, transform, known)
    except Exception as error:  # whatever it is, the service goes on
        answer = f"{error}" or type(error).__name__
    connection.send(answer)
