"""One shard: the unit of work of every engine."""

from collections.abc import Callable, Iterable

from pointpeft.data.corpus import ShardFolder
from pointpeft.data.streaming import ReadyFile
from pointpeft.measure.corpus.rows import RowMaker

__all__ = ["write_shard"]


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
