"""Reader of clouds in text: a point a line, in columns (`.csv`, `.txt`, `.xyz`)."""

import csv
import math
import re
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from pointpeft.data.column_names import label_column, says_label
from pointpeft.data.parts import EXPECTED_PARTS
from pointpeft.data.table_text import (
    MISSING,
    Layout,
    decimal_comma,
    find_columns,
    find_data,
    is_comment,
    split_fields,
)
from pointpeft.data.text import as_number, decode_text, is_decimal_comma, split_lines
from pointpeft.data.triangles import Geometry
from pointpeft.errors import DataError

__all__ = ["parse_table"]

_SAID = re.compile(r"(?:number of points|points|vertices)\s*[:=]\s*(\d+)", re.IGNORECASE)
_ONLY_DIGITS = re.compile(r"(\d+)")
_LABELLED_WIDTHS = (4, 7, 10)
"""Columns of a file without names that ends with a part label: x y z, then none or more triples."""
_SAMPLE = 20
"""Lines from which columns are found."""
_SURE = 8
"""Rows from which on a first column of rising whole numbers is taken for one of numbers."""
_EVEN = 1e-3
"""By how much steps from row to row may differ, in parts of their mean, and count as equal."""
_TIME = 1e8
"""Seconds since 1970 are above it, and coordinates below."""


def parse_table(content: bytes, segmented: bool = False) -> tuple[Geometry, np.ndarray | None]:
    """Points of a text, and their part labels where they are asked for.

    Columns are found by their names, in a line above the data or in a comment there. Without
    names the first three are x, y, z, and the last of four, seven or ten columns is the label.
    Values that are missing become NaN.

    Args:
        content: The whole file.
        segmented: Whether every point must have a part label.

    Returns:
        The cloud, and labels `(N,)` float64 or None.

    Raises:
        DataError: The text is no table, columns have names but none is a coordinate, a line
            differs from the others, numbers have decimal commas, or no column is a label.
    """
    lines = [
        (number, line)
        for number, line in enumerate(split_lines(decode_text(content)), start=1)
        if line.strip()
    ]
    start, separator = find_data(lines)
    first = split_fields(lines[start][1], separator)
    shown = [line for _, line in lines[start : start + _SAMPLE] if not is_comment(line)]
    sample = [split_fields(line, separator) for line in shown]
    notes: tuple[str, ...] = ()
    if _is_numbered(sample):
        notes = (f"line {lines[start][0]} gives the numbers of columns, and is left out",)
        has_index, start, sample = sample[0][0] == "", start + 1, sample[1:]
        layout = Layout((1, 2, 3) if has_index else (0, 1, 2), len(first))
    else:
        layout = find_columns(lines[:start], sample, separator)
    columns = list(layout.coordinates)
    if segmented:
        column, note = _labels_of(layout, len(first))
        columns.append(column)
        notes += note
    values = _read(lines[start:], separator, columns, layout)
    _check_count(lines[:start], len(values))
    if not layout.names:
        has_title = start == 2 and lines[0][1].strip().isdecimal()
        _refuse_counting(values, len(first), has_title)
    return (values[:, :3], None, notes), values[:, 3] if segmented else None


def _labels_of(layout: Layout, width: int) -> tuple[int, tuple[str, ...]]:
    """The column of part labels, and a note where nothing says that it is one."""
    if layout.names:
        column = label_column(layout.names)
        if column is None:
            named = ", ".join(name for name in layout.names if name)
            raise DataError(f"no column is called label, class, part or seg: {named}")
        name = layout.names[column]
        return column, () if says_label(name) else (f"part labels are the column {name!r}",)
    if width == 3:
        raise DataError("no column beside x, y, z; expected one 'x y z [nx ny nz] part' a line")
    if width not in _LABELLED_WIDTHS:
        raise DataError(
            f"{width} columns without names: which one is the part label? name them in a first "
            f"line such as 'x y z red green blue label'; {EXPECTED_PARTS}"
        )
    return width - 1, (f"no names of columns: part labels are the last of {width}",)


def _read(
    lines: Sequence[tuple[int, str]], separator: str, columns: Sequence[int], layout: Layout
) -> np.ndarray:
    """Numbers `(N, C)` of the chosen columns."""
    plain = _read_plain(lines, separator, layout.width)
    if plain is not None:
        return plain[:, columns]
    values = array("d")
    for number, line, fields in _rows(lines, separator):
        try:
            if not _fits(fields, layout):
                raise ValueError("columns")
            words = [fields[column].strip() for column in columns]
            values.extend(math.nan if w.lower() in MISSING else as_number(w) for w in words)
        except (ValueError, IndexError):
            if any(map(is_decimal_comma, fields)):
                raise DataError(f"line {number}: {decimal_comma(line)}") from None
            raise DataError(
                f"line {number}: expected {layout.width} columns and numbers as in the lines "
                f"before, got {line.strip()[:60]!r}"
            ) from None
    return np.array(values).reshape(-1, len(columns))


def _read_plain(lines: Sequence[tuple[int, str]], separator: str, width: int) -> np.ndarray | None:
    """All columns of a table of numbers and nothing else, several times as fast; of others None."""
    rows = (line for _, line in lines)
    delimiter = None if separator == " " else separator
    try:
        values = np.loadtxt(rows, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError:
        return None
    return values if values.shape[1] == width else None


def _rows(lines: Sequence[tuple[int, str]], separator: str) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, line and fields of every row."""
    rows = [(number, line) for number, line in lines if not is_comment(line)]
    if separator == " ":
        for number, line in rows:
            yield number, line, split_fields(line, separator)
        return
    reader = csv.reader((line for _, line in rows), delimiter=separator, skipinitialspace=True)
    for place, fields in enumerate(reader):
        number, line = rows[place]
        if reader.line_num != place + 1:
            raise DataError(f"line {number}: a quotation mark that is not closed")
        yield number, line, fields


def _fits(fields: list[str], layout: Layout) -> bool:
    """Whether a row has the columns of the others; separators may follow it, or fields be empty."""
    spare = fields[layout.width :]
    return len(fields) >= layout.width and (layout.ragged or not any(spare))


def _is_numbered(sample: list[list[str]]) -> bool:
    """Whether the first row gives the numbers of columns, as programs do that have no names.

    A row of 0, 1, 2 is no point where those below are no whole numbers.
    """
    numbers = [str(number) for number in range(len(sample[0]))]
    if sample[0] not in (numbers, ["", *numbers[:-1]]):
        return False
    return any("." in field for row in sample[1:] for field in row)


def _refuse_counting(values: np.ndarray, width: int, has_title: bool) -> None:
    """Refuse a first column that numbers rows or times them, beside three others without names."""
    first, others = values[:, 0], values[:, 1:3]
    if width < 4 or len(first) < _SURE or (others % 1 == 0).all():
        return
    steps = np.diff(first)
    is_rising, is_whole = (steps > 0).all(), (first % 1 == 0).all()
    is_time = is_rising and first.min() > _TIME and np.abs(others).max() < _TIME
    is_even = is_rising and np.ptp(steps) < _EVEN * steps.mean()
    if (is_rising and is_whole) or is_even or is_time or (has_title and is_whole):
        raise DataError(
            "the first column looks like numbers or times of the rows, and columns have no names; "
            "put a line with names such as 'id x y z' above the data"
        )


def _check_count(head: Sequence[tuple[int, str]], number: int) -> None:
    """Refuse a table that has another number of rows than a line above them says."""
    for place, line in head:
        match = _SAID.search(line) if is_comment(line) else _ONLY_DIGITS.fullmatch(line.strip())
        if match and int(match[1]) != number:
            raise DataError(
                f"line {place} says {match[1]} points, there are {number}: the file is cut short, "
                "or of another format"
            )
