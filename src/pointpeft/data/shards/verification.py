"""Whether a folder of shards is what was written."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pointpeft.data.prepared_items import Problem, Progress
from pointpeft.data.shapes import SHARD_INDEX
from pointpeft.data.shards.index import ShardIndex
from pointpeft.data.shards.marks import MARKS, read_table

__all__ = ["verify_shards"]


def verify_shards(folder: str | Path, progress: Progress | None = None) -> Iterator[Problem]:
    """What is not as it was written: shards by their SHA-256, marks, and an index not complete.

    Raises:
        DataError: The index is missing or damaged.
    """
    folder = Path(folder).expanduser()
    index = ShardIndex.read(folder)
    for done, shard in enumerate(index.shards, start=1):
        try:
            with (folder / shard.file).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard.sha256:
                yield Problem(shard.file, "its content is not what was written")
        except OSError as error:
            yield Problem(shard.file, str(error))
        if progress is not None:
            progress(done, len(index.shards))
    if not index.complete:
        yield Problem(SHARD_INDEX, f"{index.listed:,} of {index.total:,} shapes are dealt with")
        return
    if not index.shapes:
        return
    try:
        read_table(folder / MARKS, index.shapes)
    except (OSError, ValueError, LookupError) as error:
        remedy = "remove it, and `data shard` with --resume writes it anew"
        yield Problem(MARKS, f"{error}; {remedy}")
