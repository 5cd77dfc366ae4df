"""Names and points of the training shapes that adapters remember, found beside the requests."""

import logging
import threading
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from pointpeft.data import InputTransform
from pointpeft.data.shapes import check_source
from pointpeft.data.worker_processes import WorkerProcess, begin_worker
from pointpeft.errors import DataError
from pointpeft.measure.familiarity import Familiarity
from pointpeft.measure.named_shapes import NamedShape, find_shapes

__all__ = ["NeighborNames"]

log = logging.getLogger("pointpeft")


class _Reading(NamedTuple):
    """How training data was read."""

    transform: InputTransform
    variant: str | None
    seed: int


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
        self._waiting: list[tuple[Familiarity, _Reading]] = []
        self._thread: threading.Thread | None = None
        self._process: WorkerProcess | None = None

    def add(
        self,
        memory: Familiarity,
        transform: InputTransform,
        variant: str | None = None,
        seed: int = 0,
    ) -> None:
        """Have the shapes of a memory looked for from the next :meth:`begin` on.

        Args:
            memory: gets the names and points.
            transform: how its shapes were prepared, as are those behind it; see
                :func:`pointpeft.measure.named_shapes.find_shapes`.
            variant: name of the benchmark data set.
            seed: of surface sampling.
        """
        with self._lock:
            self._waiting.append((memory, _Reading(transform, variant, seed)))

    def begin(self) -> None:
        """Look for the shapes of what was added; this returns at once."""
        with self._lock:
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End, also in the middle of reading."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.end()

    def _run(self) -> None:
        while memories := self._next():
            try:
                self._name([memory for memory, _ in memories], memories[0][1])
            except Exception as error:  # whatever it is, the others are looked for
                if not self._closed:
                    reason = str(error) or type(error).__name__
                    log.warning("training shapes have no names: %s", reason)

    def _name(self, memories: list[Familiarity], how: _Reading) -> None:
        known = frozenset[str]().union(*(memory.known for memory in memories))
        found = self._find(how, known)
        for memory in memories:
            own = memory.known.intersection(found)
            memory.named.update((mark, found[mark]) for mark in own)

    def _next(self) -> list[tuple[Familiarity, _Reading]]:
        """Memories of data that is read in one way, whose shapes are looked for together."""
        with self._lock:
            if self._closed or not self._waiting:
                self._thread = None
                return []
            how = self._waiting[0][1]
            some = [one for one in self._waiting if one[1] == how]
            self._waiting = [one for one in self._waiting if one[1] != how]
            return some

    def _find(self, how: _Reading, known: frozenset[str]) -> dict[str, NamedShape]:
        with self._lock:  # so that close() sees the process, or keeps it from starting
            if self._closed:
                return {}
            self._process = WorkerProcess(_answer)
        try:
            found = self._process.ask((self._source, how, known))
        finally:
            with self._lock:
                self._process.end()
        if isinstance(found, str):
            raise DataError(found)
        return found


def _answer(connection: Connection) -> None:
    """What the process does."""
    begin_worker()
    connection.send("ready")
    source, how, known = connection.recv()
    try:
        answer: Any = find_shapes(source, how.transform, known, how.variant, how.seed)
    except Exception as error:  # whatever it is, the service goes on
        answer = f"{error}" or type(error).__name__
    connection.send(answer)
