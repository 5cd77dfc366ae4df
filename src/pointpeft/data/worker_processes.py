"""A process that works for this one, and that what it works on may end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["NotStartedError", "WorkerEndedError", "WorkerProcess", "begin_worker"]

_STARTING_SECONDS = 120


class WorkerEndedError(Exception):
    """A process ended before it answered: for lack of memory, or by a fault of native code."""

    def __init__(self) -> None:
        super().__init__(
            "it ended the process that reads it: it may be damaged, or needs too much memory"
        )


class NotStartedError(Exception):
    """A process ended before it was ready for any question."""

    def __init__(self) -> None:
        super().__init__("a process that reads files cannot be started")


class WorkerProcess:
    """A process that answers questions, one after the other.

    Args:
        target: Runs in the process, with a connection and what is ``given``: it sends a word when
            it is ready, and then an answer to each question that it receives.
        given: Further arguments of ``target``.
    """

    def __init__(self, target: Callable[..., None], *given: object) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *given), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False

    def ask(self, question: object, seconds: float | None = None) -> Any:
        """The answer to a question.

        Args:
            question: What the process is sent.
            seconds: How long it may take once the process is ready; None: any time.

        Raises:
            WorkerEndedError: The process ended before it answered.
            TimeoutError: It did not answer in time.
            NotStartedError: It ended before it was ready for any question.
        """
        self._wait_until_ready()
        try:
            self._connection.send(question)
            if self._connection.poll(seconds):
                return self._connection.recv()
        except (EOFError, OSError):
            raise WorkerEndedError from None
        raise TimeoutError

    def end(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.join()

    def _wait_until_ready(self) -> None:
        with suppress(EOFError, OSError):
            if not self._ready and self._connection.poll(_STARTING_SECONDS):
                self._connection.recv()
                self._ready = True
        if not self._ready:
            raise NotStartedError


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
