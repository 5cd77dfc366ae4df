"""One thread for all that touches the model, which takes what waits as one batch."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

__all__ = ["ModelThread"]

T = TypeVar("T")
Result = TypeVar("Result")


class ModelThread(Generic[T, Result]):
    """Computes items in batches of those that wait, and runs calls between batches, in order.

    A batch is never waited for: a lone item is computed at once, and those that come meanwhile are
    the next batch.

    Args:
        compute: results of items, in their order.
        most: items of a batch.
    """

    def __init__(self, compute: Callable[[Sequence[T]], Sequence[Result]], most: int = 32) -> None:
        self._compute, self._most = compute, most
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Any, bool] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="model")
        self._thread.start()

    def compute(self, item: T) -> "Future[Result]":
        """The result of an item."""
        return self._add(item, False)

    def call(self, function: Callable[[], Any]) -> "Future[Any]":
        """The result of a function that runs when all that was asked for before is done."""
        return self._add(function, True)

    def close(self) -> None:
        """Do what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _add(self, what: Any, is_call: bool) -> "Future[Any]":
        future: Future[Any] = Future()
        self._waiting.put((future, what, is_call))
        return future

    def _run(self) -> None:
        batch: list[tuple[Future[Any], T]] = []
        while True:
            following = self._waiting.get()
            if following is not None and not following[2]:
                batch.append(following[:2])
                if len(batch) < self._most and not self._waiting.empty():
                    continue
            self._settle(batch, self._compute)
            batch = []
            if following is None:
                return
            if following[2]:
                self._settle([following[:2]], lambda calls: [call() for call in calls])

    def _settle(
        self,
        asked: list[tuple[Future[Any], Any]],
        make: Callable[[Sequence[Any]], Sequence[Any]],
    ) -> None:
        """Make results; one that is an exception is that of its item alone."""
        asked = [(future, what) for future, what in asked if future.set_running_or_notify_cancel()]
        if not asked:  # there was nothing, or who asked has gone
            return
        try:
            results = make([what for _, what in asked])
        except Exception as error:
            results = [error] * len(asked)
        for (future, _), result in zip(asked, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
