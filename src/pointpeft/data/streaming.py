"""Files read and made ready for a model one after the other, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from pointpeft.data.addresses import read_located
from pointpeft.data.cache import geometry_digest
from pointpeft.data.chunks import stream_chunks
from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.data.reading import RawShape
from pointpeft.data.statistics import InputStatistics
from pointpeft.errors import DataError

__all__ = ["ReadyFile", "prepare_chunk", "stream_files"]

T = TypeVar("T")
Result = TypeVar("Result")

_MOST_RAW = 2_000_000
"""Raw points beyond which a chunk is prepared in parts: 48 MB."""


@dataclass(frozen=True)
class ReadyFile:
    """A file as a model takes it.

    Attributes:
        file: As it was named.
        points: `(num_points, 3)` float32; None if the file cannot be used.
        warnings: What was noticed, and in what the shape differs from the training data.
        error: Why the file cannot be used, or None.
        digest: What `geometry_digest` gives of the shape; empty where it is not known.
    """

    file: str
    points: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    digest: str = ""


def stream_files(
    files: Iterable[str | Path],
    transform: InputTransform,
    statistics: InputStatistics | None = None,
    workers: int = 0,
) -> Iterator[ReadyFile]:
    """Read and prepare files, in their order; never more than some dozens of them are in memory.

    Args:
        files: Meshes and scans: paths, or addresses as `s3://bucket/chair.glb`.
        transform: How to prepare each shape.
        statistics: Of training shapes, to warn of others.
        workers: As for :func:`pointpeft.data.chunks.stream_chunks`; a file that ends a process
            has that as its error.

    Raises:
        DataError: No process can be started.
    """
    finish = partial(_ready, transform=transform, statistics=statistics)
    prepare = partial(
        prepare_chunk, read=read_located, prepare=transform.prepare_inputs, finish=finish
    )
    return stream_chunks(prepare, map(str, files), _lost_file, workers)


def prepare_chunk(
    items: Sequence[T],
    read: Callable[[T], RawShape],
    prepare: Callable[[Sequence[RawShape]], list[Prepared | DataError]],
    finish: Callable[[T, RawShape | None, Prepared | Exception], Result],
) -> list[Result]:
    """Read items and prepare them together, in parts where they are large.

    Args:
        items: What is read.
        read: Gives the shape of an item; `DataError` and `OSError` are results.
        prepare: Makes shapes ready, as `InputTransform.prepare_inputs`.
        finish: Makes a result of an item, its shape, if it could be read, and its prepared form or
            error.
    """
    raw: dict[int, RawShape] = {}
    ready: dict[int, Result] = {}

    def prepare_raw() -> None:
        results = prepare(list(raw.values()))
        for (place, shape), result in zip(raw.items(), results, strict=True):
            ready[place] = finish(items[place], shape, result)
        raw.clear()

    for place, item in enumerate(items):
        try:
            raw[place] = read(item)
        except (DataError, OSError) as error:
            ready[place] = finish(item, None, error)
        if sum(len(shape.points) for shape in raw.values()) > _MOST_RAW:
            prepare_raw()
    prepare_raw()
    return [ready[place] for place in range(len(items))]


def _lost_file(file: str, reason: str) -> ReadyFile:
    return ReadyFile(file, error=f"{file}: {reason}")


def _ready(
    file: str,
    shape: RawShape | None,
    result: Prepared | Exception,
    transform: InputTransform,
    statistics: InputStatistics | None,
) -> ReadyFile:
    if shape is None:
        return ReadyFile(file, error=str(result))
    if not isinstance(result, Prepared):
        return ReadyFile(file, error=f"{shape.source}: {result}")
    differences = statistics.check(shape, transform) if statistics else []
    digest = geometry_digest(shape.points, shape.faces)
    return ReadyFile(file, result.points, (*result.notes, *differences), digest=digest)
