"""One shard: the unit of work of every engine."""

from collections.abc import Callable, Iterable, Iterator

from pointpeft.data import InputStatistics, InputTransform
from pointpeft.data.corpus import ShardFolder
from pointpeft.data.streaming import ReadyFile, stream_files
from pointpeft.measure.corpus.rows import RowMaker

__all__ = ["ready_files", "write_shard"]


def ready_files(
    folder: ShardFolder,
    shards: Iterable[int],
    transform: InputTransform,
    statistics: InputStatistics | None,
    workers: int = 0,
) -> Iterator[ReadyFile]:
    """The files of some shards one after the other, read and prepared.

    Args:
        folder: which the shards belong to.
        shards: their numbers.
        transform: of the :class:`RowMaker`, as are the statistics.
        statistics: of training shapes, to warn of others.
        workers: processes that read; 0: this one does.
    """
    names = (one.file for shard in shards for one in folder.files_of(shard))
    return stream_files(names, transform, statistics, workers)


def write_shard(
    folder: ShardFolder,
    maker: RowMaker,
    shard: int,
    ready: Iterable[ReadyFile],
    tick: Callable[[int], None] = lambda more: None,
) -> int:
    """Make the rows of a shard and write them.

    Args:
        folder: which shards it belongs to.
        maker: what makes the rows.
        shard: its number.
        ready: its files, read and prepared, in their order.
        tick: called for every row with 1.

    Returns:
        How many of the files could not be used.
    """
    rows, failed = [], 0
    for one, row in zip(folder.files_of(shard), maker.rows(ready), strict=True):
        rows.append({**maker.named(one, folder.files), **row})
        failed += row["error"] is not None
        tick(1)
    folder.write(shard, rows, maker.schema)
    return failed
