"""What is known of every shape of a folder of shards: class, split, and hashes of its content.

A shard holds that of its own shapes, and `marks.parquet` that of all. So it stays known which
shapes are held out where a shard is lost.
"""

from pathlib import Path
from typing import Any

from pointpeft.data.prepared_items import Problem
from pointpeft.data.shards.index import ShardIndex, import_parquet
from pointpeft.errors import DataError
from pointpeft.files import replacing

__all__ = ["MARKS", "read_marks", "read_table", "write_marks"]

MARKS = "marks.parquet"
_COLUMNS = ("class", "split", "digest", "object")


def write_marks(folder: Path, index: ShardIndex) -> None:
    """Write those of complete shards into one file, whole or not at all.

    Raises:
        DataError: A shard cannot be read.
        OSError: The file cannot be written.
    """
    arrow, parquet = import_parquet()
    tables = []
    for shard in index.shards:
        try:
            tables.append(read_table(folder / shard.file, shard.shapes))
        except (OSError, ValueError, LookupError) as error:
            raise DataError(f"{folder / shard.file}: {error}") from error
    with replacing(folder / MARKS) as temporary:
        parquet.write_table(
            arrow.concat_tables(tables), temporary, use_dictionary=["class", "split"],
            write_page_checksum=True,
        )  # fmt: skip


def read_marks(folder: Path, index: ShardIndex) -> tuple[dict[str, list], list[Problem]]:
    """Columns of all shapes in their order, and the shards that could not be read.

    Raises:
        DataError: Nothing else says what the shapes of such a shard are.
    """
    found: dict[str, list] = {name: [] for name in _COLUMNS}
    problems = []
    copy: Any = None
    for shard in index.shards:
        first = len(found["split"])
        try:
            table = read_table(folder / shard.file, shard.shapes)
        except (OSError, ValueError, LookupError) as error:
            problems.append(Problem(shard.file, str(error)))
            copy = copy or _read_copy(folder, index, problems[-1])
            table = copy.slice(first, shard.shapes)
        for name in _COLUMNS:
            found[name] += table.column(name).to_pylist()
    return found, problems


def _read_copy(folder: Path, index: ShardIndex, lost: Problem) -> Any:
    try:
        return read_table(folder / MARKS, index.shapes)
    except (OSError, ValueError, LookupError) as error:
        raise DataError(
            f"{folder / lost.item}: {lost.reason}; and without {MARKS} ({error}) it is not known "
            "which of its shapes are held out: write the shards again"
        ) from error


def read_table(path: Path, shapes: int) -> Any:
    """The columns of a file as a table.

    Raises:
        OSError, ValueError, LookupError: It is missing or damaged, or holds another number of
            shapes; errors of Arrow are such.
    """
    _, parquet = import_parquet()
    file = parquet.ParquetFile(path, page_checksum_verification=True)
    table = file.read(list(_COLUMNS), use_threads=False)
    if len(table) != shapes:
        raise ValueError(f"{len(table)} shapes in place of {shapes}")
    return table
