"""Predictions as a file with a row for each shape: csv, json lines, json or parquet."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
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
_ROWS = ".rows"
"""Ending of the lines of which a file is made at the end; no result is called so."""
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
        end: bytes of the rows that stay, as lines; what is behind them was cut short.
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
            resume: keep the rows that are there.

        Raises:
            ConfigError: the suffix is none of those, the file is there and not to be resumed, or
                its rows are no results, or of another adapter or other settings.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in RESULT_SUFFIXES:
            known = ", ".join(sorted(RESULT_SUFFIXES))
            raise ConfigError(f"`output` {path}: name a file that ends in one of {known}")
        if suffix == ".parquet":
            _arrow()
        new = cls(path, adapter)
        held = new.held
        if not held.exists():
            return new
        if not resume or not held.is_file():
            raise ConfigError(
                f"`output` {held} is there already: name another file, or pass `resume` to go on "
                "with it"
            )
        done, failed, end = set(), 0, 0
        for row in _READERS[held.suffix.lower()](held):
            if row.adapter != adapter:
                raise ConfigError(
                    f"`output` {held} has results of another `adapter`, or with other settings of "
                    "`up_axis` or `neighbors_from`: name another file"
                )
            done.add(row.file)
            failed += bool(row.error)
            end = row.end
        return cls(path, adapter, frozenset(done), failed, end)

    @property
    def held(self) -> Path:
        """Where the rows are, if there are any: the file, or lines of one that is not finished."""
        lines = _lines_of(self.path)
        return lines if lines.exists() else self.path

    def has(self, file: Path) -> bool:
        """Whether a file has a row."""
        return str(file) in self.done or as_text(str(file)) in self.done  # as Parquet has names

    def refuse_changed(self, files: Iterable[Path]) -> None:
        """Refuse to go on where a file has changed since its row was written.

        Raises:
            ConfigError: one has.
        """
        if not self.done:
            return
        made = self.held.stat().st_mtime
        for file in files:
            if self.has(file) and is_newer(file, made):
                raise ConfigError(
                    f"`resume`: {file} has changed since its row in {self.held} was written: name "
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


def _lines_of(path: Path) -> Path:
    """Where the rows of a file that is written at the end are until then."""
    return path.with_name(path.name + _ROWS) if path.suffix.lower() in _PACKED else path


@contextmanager
def _write_packed(path: Path, end: int) -> Iterator[Write]:
    """Lines beside the file, of which it is made at the end."""
    lines, (pack, unpack) = _lines_of(path), _PACKED[path.suffix.lower()]
    if end and not lines.exists():  # a finished file goes on
        with replacing(lines) as temporary, temporary.open("w", **_TEXT) as file:
            file.writelines(_text(row) + "\n" for row in unpack(path))
    with _write_lines(lines, end) as write:
        yield write
    with replacing(path) as temporary, lines.open(**_TEXT) as file:
        pack(file, temporary)
    lines.unlink()


def _pack_json(lines: Iterable[str], path: Path) -> None:
    between = "[\n"
    with path.open("w", **_TEXT) as file:
        for line in lines:
            file.write(between + line.removesuffix("\n"))
            between = ",\n"
        file.write("[]\n" if between == "[\n" else "\n]\n")


def _unpack_json(path: Path) -> Iterator[Row]:
    """Rows of a list that has a line for each, as it is written here."""
    with path.open(**_TEXT) as file:
        for line in file:
            if (row := line.rstrip("\n").removesuffix(",")) not in ("[", "]", "[]"):
                yield json.loads(row)


def _pack_parquet(lines: Iterable[str], path: Path) -> None:
    arrow, parquet = _arrow()
    schema = result_schema()
    rows = (as_text(json.loads(line)) for line in lines)
    with parquet.ParquetWriter(path, schema) as file:
        while held := list(islice(rows, _GROUP)):
            file.write_table(arrow.Table.from_pylist(held, schema))


def _unpack_parquet(path: Path) -> Iterator[Row]:
    arrow, parquet = _arrow()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_GROUP):
                yield from batch.to_pylist()
    except (arrow.ArrowInvalid, OSError) as error:
        raise ValueError(str(error)) from error


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

    def whole() -> Iterator[tuple[Row, int]]:
        with path.open("rb") as file:
            yield from ((json.loads(line), len(line)) for line in file if line.endswith(b"\n"))

    return _read_rows(path, whole())


def _read_packed(path: Path) -> Iterator[Known]:
    rows = _PACKED[path.suffix.lower()][1](path)
    return _read_rows(path, ((row, len(_text(row)) + 1) for row in rows))  # it is ASCII


def _read_rows(path: Path, rows: Iterator[tuple[Row, int]]) -> Iterator[Known]:
    """Rows with the bytes of their lines, and where each ends among them."""
    position = 0
    try:
        for row, length in rows:
            position += length
            yield Known(row["file"], row["error"], row["adapter"], position)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"`output` {path} is damaged, or was not written by this command: name another file"
        ) from error


_WRITERS: dict[str, Callable[[Path, int], AbstractContextManager[Write]]] = {
    ".csv": _write_csv,
    ".jsonl": _write_lines,
    ".json": _write_packed,
    ".parquet": _write_packed,
}
RESULT_SUFFIXES = frozenset(_WRITERS)
"""File name endings, lower case with the dot, of files of results."""
_READERS: dict[str, Callable[[Path], Iterator[Known]]] = {
    _ROWS: _read_lines,
    ".csv": _read_csv,
    ".jsonl": _read_lines,
    ".json": _read_packed,
    ".parquet": _read_packed,
}
_Pack = Callable[[Iterable[str], Path], None]
_PACKED: dict[str, tuple[_Pack, Callable[[Path], Iterator[Row]]]] = {
    ".json": (_pack_json, _unpack_json),
    ".parquet": (_pack_parquet, _unpack_parquet),
}
"""How lines become a file that is written at the end, and how rows come back out of it."""


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
