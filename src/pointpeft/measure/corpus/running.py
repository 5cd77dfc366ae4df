"""Shards of a corpus that are not done yet, made in this process or by actors of Ray."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pointpeft.clusters import import_ray
from pointpeft.data.chunks import default_workers
from pointpeft.data.corpus import ShardFolder
from pointpeft.devices import choose_device
from pointpeft.errors import ConfigError
from pointpeft.measure.corpus.on_ray import run_on_ray
from pointpeft.measure.corpus.rows import RowMaker, Work
from pointpeft.measure.corpus.shards import ready_files, write_shard
from pointpeft.output_lock import locked

__all__ = ["ENGINES", "Corpus", "make_corpus"]

ENGINES = ("processes", "ray")
"""What makes shards: this process and others that read for it, or actors of the library Ray."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Corpus:
    """A folder in which every file has its row.

    Attributes:
        folder: the shards.
        files: how many files there are.
        before: how many of them had a row before.
        failed: how many could not be used.
        notes: what was done to every shape because it was asked for.
    """

    folder: ShardFolder
    files: int
    before: int
    failed: int
    notes: tuple[str, ...] = ()


def make_corpus(
    work: Work,
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    engine: str = "processes",
    shard_size: int | None = None,
    resume: bool = False,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Corpus:
    """A row for every file, in a folder of Parquet shards; not more than a shard is in memory.

    Args:
        work: what is done, such as :class:`pointpeft.measure.corpus.rows.Features`.
        sources: files, folders, patterns and tables, see
            :meth:`pointpeft.data.corpus.file_lists.FileList.make`.
        output: the folder.
        engine: "processes": this process computes; "ray": actors on all machines of a cluster, each
            with a model of its own. All of them must see the files and the folder.
        shard_size: files of a shard, by default 1,000.
        resume: go on with ``output``: shards that are there are not made again, unless they are
            damaged, or a file has changed since.
        workers: processes that read for this one, by default as many as suit the number of files,
            and at least one when a process was killed that made shards of ``output`` before.
        device: "auto", "cpu" or "cuda".
        progress: called with (done, total) files.

    Raises:
        ConfigError: ``engine`` or ``workers`` is none, Ray or pyarrow is missing, or ``output``
            holds something else, is one of the sources, or is being written by another process.
        CheckpointError: a model cannot be loaded.
        DataError: there are no such files, or, with Ray, a shard ended every process that made it.
    """
    on_ray = _is_ray(engine, workers)
    with locked(output):
        maker = work.load("cpu" if on_ray else choose_device(device))
        folder = ShardFolder.begin(output, maker.made_by, sources, shard_size, resume)
        was_killed = folder.was_killed()
        folder.tidy()
        there, total = folder.done(maker.schema.names), folder.files.count
        missing = [shard for shard in range(folder.shards) if shard not in there]
        before = done = sum(map(folder.size_of, there))

        def tick(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, total)

        if on_ray:
            ended = run_on_ray(folder, work, maker, missing, device, tick) if missing else iter(())
        else:
            used = workers
            if used is None:  # a file that killed this process can kill another one
                used = max(default_workers(total - before), int(was_killed))
            ended = _run_here(folder, maker, missing, used, tick)
        failed = sum(there.values()) + sum(ended)
        folder.tidy()
    return Corpus(folder, total, before, failed, maker.notes)


def _is_ray(engine: str, workers: int | None) -> bool:
    """Whether Ray makes the shards; what cannot be had is refused before a model is loaded."""
    if engine not in ENGINES:
        raise ConfigError(f"`engine` must be one of {', '.join(ENGINES)}, got {engine!r}")
    on_ray = engine == "ray"
    if on_ray:
        import_ray(with_data=True)
    if workers is not None and (on_ray or workers < 0):
        raise ConfigError(
            f"`workers` must be an integer of at least 0, and is not for `engine` ray, which reads "
            f"in its actors; got {workers!r}"
        )
    return on_ray


def _run_here(
    folder: ShardFolder,
    maker: RowMaker,
    shards: Sequence[int],
    workers: int,
    tick: Callable[[int], None],
) -> Iterator[int]:
    """Make shards one after the other; yields how many of the files of each failed."""
    ready = ready_files(folder, shards, maker.transform, maker.statistics, workers)
    for shard in shards:
        with folder.attempt(shard):
            # Batches end with the shard, so that its rows are the same whatever else is done.
            some = islice(ready, folder.size_of(shard))
            failed = write_shard(folder, maker, shard, some, tick)
        yield failed
