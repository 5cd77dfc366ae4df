"""Threads that take what waits as one batch."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["BatchThreads"]

_PAUSE = 0.002
"""Seconds without a further item after which a batch begins."""

T = TypeVar("T")
Result = TypeVar("Result")


class _Waiting(NamedTuple):
    future: "Future[Any]"
    item: Any
    is_call: bool


class BatchThreads(Generic[T, Result]):
    """Computes items in batches of those that wait, in their order.

    A batch is waited for only while further items come within milliseconds of each other: answers
    leave together, so that clients ask again together.

    Args:
        computes: one for each thread: results of items, in their order. A result that is an
            exception is raised for its item alone.
        most: items of a batch.
        joins: whether an item may be in a batch with others; by default every one may.
    """

    def __init__(
        self,
        computes: Sequence[Callable[[Sequence[T]], Sequence[Result | Exception]]],
        most: int = 32,
        joins: Callable[[T], bool] = lambda _: True,
    ) -> None:
        self._most, self._joins = most, joins
        self._waiting: deque[_Waiting] = deque()
        self._changed, self._closed = threading.Condition(), False
        self._threads = [
            threading.Thread(target=self._run, args=(compute,), daemon=True) for compute in computes
        ]
        for thread in self._threads:
            thread.start()

    def compute(self, item: T) -> "Future[Result]":
        """The result of an item."""
        return self._add(item, False)

    def call(self, function: Callable[[], Any]) -> "Future[Any]":
        """The result of a function; with one thread it runs between what was asked before and
        what is asked behind it."""
        return self._add(function, True)

    def close(self) -> None:
        """Do what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _add(self, item: object, is_call: bool) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._waiting.append(_Waiting(future, item, is_call))
            self._changed.notify()
        return future

    def _run(self, compute: Callable[[Sequence[T]], Sequence[Any]]) -> None:
        while (batch := self._take()) is not None:
            if batch:
                _settle(batch, _call if batch[0].is_call else compute)

    def _take(self) -> list[_Waiting] | None:
        """The next batch; an empty one if others were faster, None when the end has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
        self._wait_while_more_come()
        with self._changed:
            batch: list[_Waiting] = []
            while self._waiting and len(batch) < self._most:
                alone = self._is_alone(self._waiting[0])
                if batch and alone:
                    break
                batch.append(self._waiting.popleft())
                if alone:
                    break
            if self._waiting:  # for another thread
                self._changed.notify()
            return batch

    def _wait_while_more_come(self) -> None:
        before = 0  # a sleep, since being woken for each item would cost more than the wait
        while before < len(self._waiting) < self._most and not self._closed:
            before = len(self._waiting)
            time.sleep(_PAUSE)

    def _is_alone(self, waiting: _Waiting) -> bool:
        return waiting.is_call or not self._joins(waiting.item)


def _call(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    return [function() for function in functions]


def _result(make: Callable[[Sequence[Any]], Sequence[Any]], item: object) -> object:
    """Of one item alone, or the error that it gives."""
    try:
        return make([item])[0]
    except Exception as error:
        return error


def _settle(batch: list[_Waiting], make: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
    """Make the results of those who have not gone."""
    asked = [one for one in batch if one.future.set_running_or_notify_cancel()]
    if not asked:
        return
    try:
        results = make([one.item for one in asked])
    except Exception as error:
        # One of them is to blame: the others are computed without it.
        results = [error] if len(asked) == 1 else [_result(make, one.item) for one in asked]
    for one, result in zip(asked, results, strict=True):
        if isinstance(result, Exception):
            one.future.set_exception(result)
        else:
            one.future.set_result(result)
