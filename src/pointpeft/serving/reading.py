"""Files of strangers, read in processes of their own under limits of memory and time.

A file that takes too much of either ends the process, which is replaced, and not the service.
"""

import contextlib
import json
import multiprocessing
import queue
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from pointpeft.data.prepare import InputTransform
from pointpeft.data.reading import RawShape, clean_shape, read_shape
from pointpeft.data.statistics import InputStatistics
from pointpeft.data.streaming import begin_worker
from pointpeft.errors import DataError
from pointpeft.measure.part_predictor import part_input
from pointpeft.serving.limits import Limits

__all__ = ["ReadShape", "ReaderPool", "Upload"]

_STARTING_SECONDS = 120


@dataclass(frozen=True)
class Upload:
    """A shape as it was sent.

    Attributes:
        name: what messages call it; it is never a path.
        suffix: that says how it is read, such as ".stl"; ".json" is ``{"points": [[x, y, z]]}``.
        content: of the file.
    """

    name: str
    suffix: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class ReadShape:
    """A shape that was read.

    Attributes:
        file: what messages call it.
        cloud: ``(N, 3)`` float32, what the model sees; None if the shape cannot be used.
        points: for part segmentation, all points ``(M, 3)`` that get a part.
        nearest: ``(M,)``, for each of them the row of ``cloud`` whose part it gets.
        warnings: what was noticed, and in what the shape differs from the training data.
        error: why the shape cannot be used, or None.
    """

    file: str
    cloud: np.ndarray | None = None
    points: np.ndarray | None = None
    nearest: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class _Task:
    upload: Upload
    transform: InputTransform
    statistics: InputStatistics | None
    segmented: bool


class ReaderPool:
    """Some processes that read shapes.

    Args:
        workers: how many.
        limits: of memory, time and points.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self._free: queue.Queue[_Reader] = queue.Queue()
        self._readers = [_Reader(limits) for _ in range(workers)]
        for reader in self._readers:
            self._free.put(reader)

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
    ) -> ReadShape:
        """Read and prepare a shape; it may be called by several threads.

        Args:
            upload: the shape.
            transform: how it is prepared.
            statistics: of training shapes, to warn of others.
            segmented: whether it is prepared for part segmentation.
        """
        reader = self._free.get()
        try:
            return reader.read(_Task(upload, transform, statistics, segmented))
        finally:
            self._free.put(reader)

    def close(self) -> None:
        """End the processes."""
        for reader in self._readers:
            reader.close()


class _Reader:
    """One process, replaced when a file has ended it."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self.replaced = limits, 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch
        self._folder = tempfile.TemporaryDirectory(prefix="pointpeft-")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, self._folder.name, self._limits), daemon=True
        )
        self._process.start()
        theirs.close()
        self._ready = False

    def read(self, task: _Task) -> ReadShape:
        reason = "it ended the process that reads it: it may be damaged, or needs too much memory"
        with contextlib.suppress(EOFError, OSError):
            if not self._ready and self._connection.poll(_STARTING_SECONDS):
                self._connection.recv()
                self._ready = True
            self._connection.send(task)
            if self._connection.poll(self._limits.reading_seconds):
                return self._connection.recv()
            reason = f"reading it took more than {self._limits.reading_seconds} s"
        self.close()
        self.replaced += 1
        self._start()
        return ReadShape(task.upload.name, error=f"{task.upload.name}: {reason}")

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._folder.cleanup()


def _work(connection: Connection, folder: str, limits: Limits) -> None:
    """What a process does until the service hangs up."""
    begin_worker()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit_memory(limits.reading_bytes)
    connection.send("ready")
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(_read(task, Path(folder), limits))
        del task


def _limit_memory(more: int) -> None:
    """Refuse this process memory beyond what it has and so many bytes; and a dump of its core."""
    if not sys.platform.startswith("linux"):  # others have no limit that they keep
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(task: _Task, folder: Path, limits: Limits) -> ReadShape:
    """Read one shape; what a message calls it is its name, not a path of this machine."""
    name = task.upload.name
    path = folder / f"shape{task.upload.suffix}"
    try:
        shape = _shape(task.upload, path)
        _check_size(shape, limits.max_points)
        return _prepared(task, shape)
    except DataError as error:
        reason = str(error).replace(str(path), name)
        return ReadShape(name, error=reason if name in reason else f"{name}: {reason}")
    except MemoryError:
        return ReadShape(name, error=f"{name}: needs more memory than the service gives a file")
    except Exception as error:  # native code under a limit of memory fails in any way
        return ReadShape(name, error=f"{name}: cannot be used ({type(error).__name__})")
    finally:
        path.unlink(missing_ok=True)


def _shape(upload: Upload, path: Path) -> RawShape:
    if upload.suffix == ".json":
        return clean_shape(RawShape(_points(upload.content), None, upload.name))
    path.write_bytes(upload.content)
    return read_shape(path)


def _points(content: bytes) -> np.ndarray:
    expected = 'expected {"points": [[x, y, z], ...]}'
    try:
        points = np.asarray(json.loads(content)["points"], dtype=np.float64)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise DataError(expected) from None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise DataError(f"points of shape {points.shape}: {expected}")
    return points


def _check_size(shape: RawShape, most: int) -> None:
    for what, rows in (("points", shape.points), ("triangles", shape.faces)):
        if rows is not None and len(rows) > most:
            raise DataError(f"{len(rows):,} {what}: the service takes up to {most:,} of a shape")


def _prepared(task: _Task, shape: RawShape) -> ReadShape:
    name, transform = task.upload.name, task.transform
    differences = task.statistics.check(shape, transform) if task.statistics else []
    if task.segmented:
        parts = part_input(shape, transform)
        notes = (*parts.prepared.notes, *differences)
        return ReadShape(name, parts.cloud.copy(), parts.points, parts.nearest, notes)
    (prepared,) = transform.prepare_batch([shape])
    if isinstance(prepared, DataError):
        raise prepared
    cloud = prepared.points[: transform.num_points].copy()  # without the others
    return ReadShape(name, cloud, warnings=(*prepared.notes, *differences))
