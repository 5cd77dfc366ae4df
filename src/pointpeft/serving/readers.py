"""Processes that read files of strangers under limits of memory and time.

A file that takes too much of either ends the process, which is replaced, and not the service.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future

from pointpeft.data.prepare import InputTransform
from pointpeft.data.statistics import InputStatistics
from pointpeft.data.worker_processes import NotStartedError, WorkerEndedError, WorkerProcess
from pointpeft.errors import ConfigError
from pointpeft.serving.batching import BatchThreads
from pointpeft.serving.limits import Limits
from pointpeft.serving.reader_process import ReadShape, ReadTask, work
from pointpeft.serving.uploads import Upload

__all__ = ["ReaderPool"]

_TOGETHER = 16
"""Shapes that a process reads at once: their points are put in order together, which is faster."""
_SMALL = 1 << 18
_PLAIN = frozenset(
    {".json", ".npy", ".obj", ".off", ".ply", ".pts", ".stl", ".txt", ".csv", ".xyz"}
)
"""Kinds of files that take time and memory by their size, since nothing in them is packed."""


class ReaderPool:
    """Some processes that read shapes.

    Args:
        workers: how many.
        limits: of memory, time and points.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        if workers < 1:
            raise ConfigError(f"`readers` must be at least 1, got {workers}")
        self._readers = [_Reader(limits) for _ in range(workers)]
        self._threads: BatchThreads[ReadTask, ReadShape] = BatchThreads(
            [reader.read for reader in self._readers], _TOGETHER, _is_light
        )

    @property
    def replaced(self) -> int:
        """How many processes were ended by a file."""
        return sum(reader.replaced for reader in self._readers)

    def read(
        self,
        upload: Upload,
        transform: InputTransform,
        statistics: InputStatistics | None = None,
        segmented: bool = False,
    ) -> "Future[ReadShape]":
        """Read and prepare a shape.

        Args:
            upload: the shape.
            transform: how it is prepared.
            statistics: of training shapes, to warn of others.
            segmented: whether it is prepared for part segmentation.
        """
        return self._threads.compute(ReadTask(upload, transform, statistics, segmented))

    def close(self) -> None:
        """Read what waits, and end the processes."""
        self._threads.close()
        for reader in self._readers:
            reader.close()


def _is_light(task: ReadTask) -> bool:
    """Whether a shape cannot keep others waiting that are read with it."""
    return task.upload.suffix in _PLAIN and len(task.upload.content) <= _SMALL


class _Reader:
    """One process, replaced when a file has ended it."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self.replaced = limits, 0
        self._start()

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pointpeft-")
        self._process = WorkerProcess(work, self._folder.name, self._limits)
        self._fresh = True

    def read(self, tasks: Sequence[ReadTask]) -> list[ReadShape]:
        """What is read of each task; who ends the process, or is slow, has an error."""
        fresh, self._fresh = self._fresh, False
        try:
            return self._process.ask(tasks, self._limits.reading_seconds)
        except (WorkerEndedError, NotStartedError) as error:
            reason, died = str(error), True
        except TimeoutError:
            reason = f"reading it took more than {self._limits.reading_seconds} s"
            died = False
        self.close()
        self.replaced += 1
        self._start()
        if len(tasks) > 1:  # it was one of them
            return [read for task in tasks for read in self.read([task])]
        if died and not fresh:  # files before it may have used the memory up
            return self.read(tasks)
        name = tasks[0].upload.name
        return [ReadShape(name, error=f"{name}: {reason}")]

    def close(self) -> None:
        self._process.end()
        self._folder.cleanup()
