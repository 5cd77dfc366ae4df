"""What a process does that reads files of strangers."""

import json
import signal
import sys
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from pointpeft.data.prepare import InputTransform, Prepared, farthest_point_order
from pointpeft.data.reading import RawShape, clean_shape, read_shape
from pointpeft.data.statistics import InputStatistics
from pointpeft.data.worker_processes import begin_worker
from pointpeft.errors import DataError
from pointpeft.measure.part_predictor import part_input
from pointpeft.serving.limits import Limits
from pointpeft.serving.uploads import Upload, plain_name

__all__ = ["ReadShape", "ReadTask", "work"]


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
class ReadTask:
    """A shape to read; see :meth:`ReaderPool.read` of :mod:`pointpeft.serving.readers`."""

    upload: Upload
    transform: InputTransform
    statistics: InputStatistics | None
    segmented: bool


def work(connection: Connection, folder: str, limits: Limits) -> None:
    """Read the shapes of each list of tasks that comes, until the service hangs up.

    Args:
        connection: to the service.
        folder: for a file while it is read.
        limits: of memory and points; the service watches the time.
    """
    begin_worker()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    farthest_point_order([np.eye(3)], 3)  # loads what it needs before a shape waits for it
    _limit_memory(limits.reading_bytes)
    path = Path(folder) / "shape"
    connection.send("ready")
    while True:
        try:
            tasks = connection.recv()
        except EOFError:
            return
        connection.send(_read(tasks, path, limits))
        del tasks


def _limit_memory(more: int) -> None:
    """Refuse this process memory beyond what it has and so many bytes; and a dump of its core."""
    if not sys.platform.startswith("linux"):  # others have no limit that they keep
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(tasks: Sequence[ReadTask], path: Path, limits: Limits) -> list[ReadShape]:
    """What is read of each task, in their order."""
    name = tasks[0].upload.name
    try:
        return _read_together(tasks, path, limits)
    except MemoryError:
        reason = "needs more memory than the service gives a file"
    except Exception as error:  # native code under a limit of memory fails in any way
        reason = f"cannot be used ({type(error).__name__})"
    if len(tasks) > 1:  # it was one of them
        return [read for task in tasks for read in _read([task], path, limits)]
    return [ReadShape(name, error=f"{name}: {reason}")]


def _read_together(tasks: Sequence[ReadTask], path: Path, limits: Limits) -> list[ReadShape]:
    """Those for one transform are prepared together, which is faster."""
    found: dict[int, ReadShape] = {}
    shapes: dict[int, RawShape] = {}
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, task in enumerate(tasks):
        try:
            shapes[place] = _shape(task.upload, path.with_suffix(task.upload.suffix), limits)
            groups[place if task.segmented else task.transform].append(place)
        except DataError as error:
            found[place] = _refused(task, error)
    for places in groups.values():
        some = [(tasks[place], shapes[place]) for place in places]
        found.update(zip(places, _prepared(some), strict=True))
    return [found[place] for place in range(len(tasks))]


def _refused(task: ReadTask, error: DataError) -> ReadShape:
    name, reason = task.upload.name, str(error)
    return ReadShape(name, error=reason if name in reason else f"{name}: {reason}")


def _shape(upload: Upload, path: Path, limits: Limits) -> RawShape:
    """A shape; what messages call it is its name, not a path of this machine."""
    if upload.suffix == ".json":
        shape = clean_shape(RawShape(_points(upload.content), None, upload.name))
    else:
        try:
            path.write_bytes(upload.whole())
            shape = read_shape(path)
        except DataError as error:
            raise DataError(str(error).replace(str(path), upload.name)) from None
        finally:
            path.unlink(missing_ok=True)
    _check_size(shape, limits.max_points)
    return shape


def _points(content: bytes) -> np.ndarray:
    """Points of JSON; texts, truth values and null are no numbers, though NumPy takes them."""
    expected = 'expected {"points": [[x, y, z], ...]} of finite numbers'
    try:
        document = json.loads(content)
        rows = document.pop("points")
        kinds = {type(value) for row in rows for value in row}
        points = np.asarray(rows, dtype=np.float64)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        raise DataError(expected) from None
    if document:
        raise DataError(
            f"the key {plain_name(next(iter(document)))!r} beside the points: what is asked for is "
            "part of the address, as in /v1/predict?adapter=NAME"
        )
    if points.ndim != 2 or points.shape[1] != 3:
        raise DataError(f"points of shape {points.shape}: {expected}")
    if not kinds <= {int, float} or not np.isfinite(points).all():
        raise DataError(expected)
    return points


def _check_size(shape: RawShape, most: int) -> None:
    for what, rows in (("points", shape.points), ("triangles", shape.faces)):
        if rows is not None and len(rows) > most:
            raise DataError(f"{len(rows):,} {what}: the service takes up to {most:,} of a shape")


def _prepared(some: Sequence[tuple[ReadTask, RawShape]]) -> list[ReadShape]:
    """Shapes of one transform made ready: several clouds, or one whose points get parts."""
    (first, shape), *_ = some
    if first.segmented:
        try:
            parts = part_input(shape, first.transform)
        except DataError as error:
            return [_refused(first, error)]
        notes = (*parts.prepared.notes, *_differences(first, shape))
        made = parts.prepared.points, parts.points, parts.nearest
        return [ReadShape(first.upload.name, *made, warnings=notes)]
    prepared = first.transform.prepare_inputs([shape for _, shape in some])
    return [_cloud(*one, made) for one, made in zip(some, prepared, strict=True)]


def _cloud(task: ReadTask, shape: RawShape, prepared: Prepared | DataError) -> ReadShape:
    if isinstance(prepared, DataError):
        return _refused(task, prepared)
    notes = (*prepared.notes, *_differences(task, shape))
    return ReadShape(task.upload.name, prepared.points, warnings=notes)


def _differences(task: ReadTask, shape: RawShape) -> list[str]:
    return task.statistics.check(shape, task.transform) if task.statistics else []
