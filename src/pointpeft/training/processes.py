"""Several processes in one run: which one this is, and what falls to it."""

import atexit
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

import lightning as L
import torch.distributed
from lightning.pytorch.utilities import rank_zero_only

from pointpeft.errors import ConfigError, TrainingError

__all__ = [
    "Share",
    "disconnect_at_exit",
    "is_first_process",
    "on_first_process",
    "quiet_other_processes",
]

T = TypeVar("T")

log = logging.getLogger("pointpeft")


@dataclass(frozen=True)
class Share:
    """What one of several processes, numbered from 0, takes of every batch."""

    rank: int = 0
    processes: int = 1

    @classmethod
    def of(cls, trainer: L.Trainer) -> Self:
        """That of this process."""
        return cls(trainer.global_rank, trainer.world_size)

    def batch_size(self, whole: int) -> int:
        """Items of each process in a batch of ``whole`` items.

        Raises:
            ConfigError: they cannot be shared out evenly, or are fewer than two for a process.
        """
        size, rest = divmod(whole, self.processes)
        if rest or size < 2:
            raise ConfigError(
                f"trainer.batch_size={whole} cannot be shared out to {self.processes} processes: "
                f"it must be a multiple of {self.processes} and at least {2 * self.processes}, "
                "since BatchNorm needs two clouds in each"
            )
        return size


def is_first_process() -> bool:
    """Whether this process writes and prints; known before any trainer has been made."""
    # Lightning starts the processes of further machines without a rank, only with NODE_RANK.
    rank = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank == 0 and os.environ.get("NODE_RANK", "0") == "0"


def on_first_process(trainer: L.Trainer, work: Callable[[], T]) -> T:
    """Do something in the first process alone; all of them wait for it and get its result.

    The trainer has begun to train, so that the processes are connected; the result is picklable.

    Raises:
        Exception: the first process raises what ``work`` does.
        TrainingError: in the other processes; it names that error.
    """
    result, problem = None, ""
    if trainer.is_global_zero:
        try:
            result = work()
        except Exception as error:  # any: the others would wait for the result
            trainer.strategy.broadcast((None, f"{type(error).__name__}: {error}"))
            raise
    result, problem = trainer.strategy.broadcast((result, problem))
    if problem:
        raise TrainingError(f"the first process failed: {problem}")
    return result  # type: ignore[return-value]


def quiet_other_processes() -> None:
    """Leave the package's log messages to the first process; errors pass."""
    if not is_first_process() and not log.filters:
        log.addFilter(lambda record: record.levelno >= logging.ERROR)


def disconnect_at_exit() -> None:
    """End the connection between the processes before this one's interpreter ends.

    A thread of gloo may still hold a tensor of the last message. Where it frees that tensor while
    the interpreter ends, the process aborts ("terminate called without an active exception") after
    all its work is done. Lightning ends connections of NCCL only.
    """
    atexit.unregister(_disconnect)
    atexit.register(_disconnect)


def _disconnect() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
