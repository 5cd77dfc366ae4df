"""Predictions as a file with a row for each shape: csv, json lines, json or parquet."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from pointpeft.errors import ConfigError
from pointpeft.files import as_text, finite, is_newer, replacing
from pointpeft.optional import import_arrow

__all__ = ["COLUMNS", "RESULT_SUFFIXES", "ResultFile", "result_schema"]

T = TypeVar("T")
Row = Mapping[str, Any]
Write = Callable[[Row], object]

COLUMNS = (
    "file", "class", "probability", "ranking", "unusual", "nearest", "warnings", "error", "adapter",
)  # fmt: skip
"""What a row has; "adapter" is a hash of all that a prediction hangs on besides the file."""
_LISTS = ("ranking", "nearest", "warnings")
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""Names of files may be no text: their bytes come back as they were."""
_GROUP = 1000
"""Rows of a parquet file that are written together."""


class Known(NamedTuple):
    """A row that a file holds: its shape, why that was not read, the adapter, and where it ends."""

    file: str
    error: str | None
    adapter: str
    end: int


@dataclass(frozen=True)
class ResultFile:
    """A file that predictions are written into, row by row.

    Attributes:
        path: of the file.
        adapter: hash that stands in every row.
        done: files that have a row, which stays.
        failed: how many of them could not be read.
        end: bytes of the rows that stay; what is behind them was cut short.
    """

    path: Path
    adapter: str
    done: frozenset[str] = frozenset()
    failed: int = 0
    end: int = 0

    @classmethod
    def prepare(cls, path: str | Path, adapter: str, resume: bool = False) -> "ResultFile":
        """Check that predictions can be written; nothing is written yet.

        Args:
            path: its suffix says how: .csv, .jsonl, .json or .parquet.
            adapter: hash of the adapter and of settings.
            resume: keep the rows that are there, of csv and jsonl files.

        Raises:
            ConfigError: the suffix is none of those, the file is there and not to be resumed, it
                cannot be, or its rows are of another adapter or other settings.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in _WRITERS:
            known = ", ".join(_WRITERS)
            raise ConfigError(f"`output` {path}: name a file that ends in one of {known}")
        if suffix == ".parquet":
            _arrow()
        if resume and suffix not in _READERS:
            raise ConfigError(f"`resume` goes on with {' and '.join(_READERS)} files, not {path}")
        if not path.exists():
            return cls(path, adapter)
        if not resume or not path.is_file():
            more = ", or pass `resume` to go on with it" if suffix in _READERS else ""
            raise ConfigError(f"`output` {path} is there already: name another file{more}")
        done, failed, end = set(), 0, 0
        for row in _READERS[suffix](path):
            if row.adapter != adapter:
                raise ConfigError(
                    f"`output` {path} has results of another `adapter`, or with other settings of "
                    "`up_axis` or `neighbors_from`: name another file"
                )
            done.add(row.file)
            failed += bool(row.error)
            end = row.end
        return cls(path, adapter, frozenset(done), failed, end)

    def refuse_changed(self, files: Iterable[Path]) -> None:
        """Refuse to go on where a file has changed since its row was written.

        Raises:
            ConfigError: one has.
        """
        if not self.done:
            return
        made = self.path.stat().st_mtime
        for file in files:
            if str(file) in self.done and is_newer(file, made):
                raise ConfigError(
                    f"`resume`: {file} has changed since its row in {self.path} was written: name "
                    "another file as `output`"
                )

    def written(self, found: Iterable[T], as_row: Callable[[T], Row]) -> Iterator[T]:
        """The same values, each written as it passes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _WRITERS[self.path.suffix.lower()](self.path, self.end) as write:
            for one in found:
                write({key: ({**as_row(one), "adapter": self.adapter})[key] for key in COLUMNS})
                yield one


def _text(row: Row) -> str:
    return json.dumps(finite(row), allow_nan=False)


@contextmanager
def _write_csv(path: Path, end: int) -> Iterator[Write]:
    with _going_on(path, end) as file:
        writer = csv.writer(file)
        if not end:
            writer.writerow(COLUMNS)

        def write(row: Row) -> None:
            writer.writerow([_text(row[key]) if key in _LISTS else row[key] for key in COLUMNS])
            file.flush()

        yield write


@contextmanager
def _write_lines(path: Path, end: int) -> Iterator[Write]:
    with _going_on(path, end) as file:

        def write(row: Row) -> None:
            file.write(_text(row) + "\n")
            file.flush()

        yield write


@contextmanager
def _write_json(path: Path, end: int) -> Iterator[Write]:
    with replacing(path) as temporary, temporary.open("w", **_TEXT) as file:
        between = ["[\n"]

        def write(row: Row) -> None:
            file.write(between[0] + _text(row))
            between[0] = ",\n"

        yield write
        file.write("[]\n" if between[0] == "[\n" else "\n]\n")


@contextmanager
def _write_parquet(path: Path, end: int) -> Iterator[Write]:
    arrow, parquet = _arrow()
    schema, held = result_schema(), []  # type: ignore[var-annotated]
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:

        def write_held() -> None:
            file.write_table(arrow.Table.from_pylist(held, schema))
            held.clear()

        def write(row: Row) -> None:
            held.append(as_text(finite(row)))
            if len(held) == _GROUP:
                write_held()

        yield write
        write_held()


@contextmanager
def _going_on(path: Path, end: int) -> Iterator[Any]:
    """The file, opened to write behind its first ``end`` bytes."""
    with path.open("r+" if end else "w", **_TEXT) as file:
        file.truncate(end)
        file.seek(end)
        yield file


def _read_csv(path: Path) -> Iterator[Known]:
    """Whole rows; a last one that was cut short ends without a line break or is too short."""
    position, whole = 0, True

    def lines(file: Iterable[str]) -> Iterator[str]:
        nonlocal position, whole
        for line in file:
            position += len(line.encode("utf-8", "surrogateescape"))
            whole = line.endswith("\n")
            yield line

    with path.open(**_TEXT) as file:
        rows = csv.reader(lines(file))
        header = next(rows, None)
        if header is not None and (tuple(header) != COLUMNS or not whole):
            raise ConfigError(
                f"`output` {path} has other columns than {', '.join(COLUMNS)}: name another file"
            )
        try:
            for row in rows:
                if len(row) == len(COLUMNS) and whole:
                    known = dict(zip(COLUMNS, row, strict=True))
                    yield Known(known["file"], known["error"], known["adapter"], position)
        except csv.Error as error:
            raise ConfigError(f"`output` {path} is damaged: name another file") from error


def _read_lines(path: Path) -> Iterator[Known]:
    """Whole rows; a last one that was cut short ends without a line break."""
    position = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                yield Known(row["file"], row["error"], row["adapter"], position)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"`output` {path} has a line that is no result: name another file"
                ) from error


_WRITERS: dict[str, Callable[[Path, int], AbstractContextManager[Write]]] = {
    ".csv": _write_csv,
    ".jsonl": _write_lines,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
RESULT_SUFFIXES = frozenset(_WRITERS)
"""File name endings, lower case with the dot, of files of results."""
_READERS: dict[str, Callable[[Path], Iterator[Known]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_lines,
}


def _arrow() -> tuple[ModuleType, ModuleType]:
    return import_arrow("Parquet files as `output`", "take a .csv or .jsonl file")


def result_schema() -> Any:
    """The columns of a row as Arrow has them.

    Raises:
        ConfigError: pyarrow is missing.
    """
    arrow, _ = _arrow()
    text, number = arrow.string(), arrow.float64()
    ranked = arrow.struct([("class", text), ("probability", number)])
    near = arrow.struct([("class", text), ("similarity", number), ("id", text), ("name", text)])
    lists = {"ranking": ranked, "nearest": near, "warnings": text}
    kinds = {key: arrow.list_(kind) for key, kind in lists.items()}
    kinds |= {"probability": number, "unusual": number}
    return arrow.schema([(key, kinds.get(key, text)) for key in COLUMNS])
