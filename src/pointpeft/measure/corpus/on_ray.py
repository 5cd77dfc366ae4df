"""Shards made by Ray Data, in a pool of actors that each hold a model.

On CPUs an actor reads, prepares and encodes the files of its shards on one core. Where there are
GPUs, an actor has one, and tasks on all cores read and prepare for it.
"""

import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from pointpeft import errors
from pointpeft.clusters import import_ray, ray_session
from pointpeft.data import InputStatistics, InputTransform
from pointpeft.data.corpus import ShardFolder
from pointpeft.data.streaming import ReadyFile
from pointpeft.errors import CheckpointError, ConfigError, DataError, PointPeftError
from pointpeft.measure.corpus.rows import RowMaker, Work
from pointpeft.measure.corpus.shards import ready_files, write_shard

__all__ = ["run_on_ray"]

Columns = dict[str, Any]

_OURS = re.compile(r"^\W*pointpeft\.errors\.(\w+Error): (.+)$", re.MULTILINE)


def run_on_ray(
    folder: ShardFolder,
    work: Work,
    maker: RowMaker,
    shards: Sequence[int],
    device: str,
    tick: Callable[[int], None],
) -> Iterator[int]:
    """Make shards on a cluster; yields how many of the files of each failed.

    A shard whose actor is lost, with its process or its machine, is made again by another one.

    Args:
        folder: which shards they are of; all machines see it at the same path.
        work: what the actors load.
        maker: the same, loaded here: an actor that loads another model refuses to work.
        shards: their numbers.
        device: "auto" takes GPUs if the cluster has some.
        tick: called with the number of files that are done.

    Raises:
        ConfigError: Ray is not installed, or the cluster lacks the device.
        DataError: a shard ended the process of every actor that tried it.
    """
    import_ray(with_data=True)
    with ray_session() as ray:
        has = ray.cluster_resources()
        gpus = int(has.get("GPU", 0)) if device != "cpu" else 0
        if device == "cuda" and not gpus:
            raise ConfigError("`device` cuda: no machine of the cluster has a GPU; take cpu")
        folder = replace(folder, path=folder.path.resolve())
        task = _Task(folder, os.getcwd(), tuple(sys.path))  # noqa: PTH109 - sent as text
        actors = min(gpus or int(has.get("CPU", 1)), len(shards))
        rows = _silent(ray).data.from_items(
            [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
        )
        if gpus:
            rows = rows.map_batches(_Reading(task, maker.transform, maker.statistics), batch_size=1)
        rows = rows.map_batches(
            _Actor,
            fn_constructor_args=(task, work, maker.made_by, "cuda" if gpus else "cpu"),
            batch_size=1,
            concurrency=actors,
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        try:
            for row in rows.iter_rows():
                tick(int(row["files"]))
                yield int(row["failed"])
        except ray.exceptions.RayError as error:
            raise _understood(error) from error


@dataclass(frozen=True)
class _Task:
    """What all processes know: the folder, and where the one that began them is."""

    folder: ShardFolder
    working_folder: str
    paths: tuple[str, ...]

    def settle(self) -> None:
        """Be where that process is, so that names of files mean the same; one thread, silent."""
        import torch

        os.chdir(self.working_folder)
        sys.path.extend(path for path in self.paths if path not in sys.path)
        torch.set_num_threads(1)
        log = logging.getLogger("pointpeft")
        if not log.handlers:
            log.addHandler(logging.NullHandler())

    def read(
        self,
        shard: int,
        transform: InputTransform,
        statistics: InputStatistics | None,
        before: int,
    ) -> Iterator[ReadyFile]:
        """The files of a shard; if it was begun before, a file may have ended its process.

        So it is then read by another one, which may end.
        """
        return ready_files(self.folder, [shard], transform, statistics, workers=min(before, 1))


@dataclass(frozen=True)
class _Reading:
    """Reads and prepares the files of a shard for an actor that has a GPU."""

    task: _Task
    transform: InputTransform
    statistics: InputStatistics | None

    def __call__(self, batch: Columns) -> Columns:
        self.task.settle()
        shards = [int(shard) for shard in batch["shard"]]
        return {"shard": np.array(shards), "ready": list(map(self._read, shards))}

    def _read(self, shard: int) -> bytes:
        with self.task.folder.attempt(shard, "read") as before:
            return pickle.dumps(
                list(self.task.read(shard, self.transform, self.statistics, before))
            )


class _Actor:
    """Makes shards with a model that it loads once."""

    def __init__(self, task: _Task, work: Work, made_by: Mapping[str, Any], device: str) -> None:
        task.settle()
        self._task, self._maker = task, work.load(device)
        if self._maker.made_by != made_by:
            raise CheckpointError(
                "a machine of the cluster loads another model, or has another pointpeft, than the "
                "one where the command was given"
            )

    def __call__(self, batch: Columns) -> Columns:
        shards = [int(shard) for shard in batch["shard"]]
        folder, failed = self._task.folder, []
        for place, shard in enumerate(shards):
            with folder.attempt(shard) as before:
                ready = self._ready(shard, batch, place, before)
                failed.append(write_shard(folder, self._maker, shard, ready))
        files = [folder.size_of(shard) for shard in shards]
        return {"shard": np.array(shards), "files": np.array(files), "failed": np.array(failed)}

    def _ready(self, shard: int, batch: Columns, place: int, before: int) -> Iterator[ReadyFile]:
        if "ready" in batch:
            return iter(pickle.loads(batch["ready"][place]))
        return self._task.read(shard, self._maker.transform, self._maker.statistics, before)


def _silent(ray: ModuleType) -> ModuleType:
    """Ray without bars and lines of its own: there is one bar already."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _understood(error: Exception) -> PointPeftError:
    """An error of ours that an actor raised, or what Ray says of a process that is lost.

    Ours may be there as text alone, since what comes from another process has lost its causes.
    """
    if ours := _OURS.search(str(error)):
        return getattr(errors, ours[1])(ours[2])
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return DataError(
        f"Ray could not make a shard: {last[0]}; the same command with `resume` goes on"
    )
