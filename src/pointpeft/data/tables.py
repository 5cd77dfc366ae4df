"""Reader of clouds in text: a point a line, in columns (`.csv`, `.txt`, `.xyz`)."""

import csv
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pointpeft.data.column_names import coordinate_columns, is_column_word, label_column
from pointpeft.data.parts import EXPECTED_PARTS
from pointpeft.data.polygons import Geometry
from pointpeft.data.text import as_number, decode_text, is_decimal_comma, split_lines
from pointpeft.errors import DataError

__all__ = ["parse_table"]

_COMMENT_MARKS = ("#", "//", "%", ";", "!")
_SEPARATORS = (";", "\t", ",", "|", " ")
"""What may stand between columns, tried in this order; a space stands for any white space."""
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-nan", "+nan"})
_INTRODUCTION = re.compile(
    r"^(?:[^:=;,\t]*[:=]|fields|columns?|header|names?|data|format|labels?)[\s,;]+", re.IGNORECASE
)
"""What may stand before the names of columns in a comment: `columns:`, `FIELDS`."""
_NUMBERING = re.compile(r"^\d+\s*[:.)=]\s*")
"""What may stand before a name that says which column it is of: `1:x`."""
_ONE_COLUMN = re.compile(r"(?:column|col|field)\s*\d+\s*[:=]", re.IGNORECASE)
"""A line that says what one column is, beside others that say it of others."""
_SAID = re.compile(r"(?:number of points|points|vertices)\s*[:=]\s*(\d+)", re.IGNORECASE)
_OTHER_FORMAT = re.compile(r"ncols\b|nrows\b|.*\bDATAPACKING\s*=\s*BLOCK", re.IGNORECASE)
"""First words of grids and of tables stored column after column."""
_UNIT = re.compile(r"[\[({][^\])}]*[\])}]")
_LABELLED_WIDTHS = (4, 7, 10)
"""Columns of a file without names that ends with a part label: x y z, then none or more triples."""
_SURE = 8
"""Rows from which on a first column of rising whole numbers is taken for one of numbers."""
_TIME = 1e8
"""Seconds since 1970 are above it, and coordinates below."""
_EXPECTED = "expected one 'x y z' or 'x,y,z' a line"


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
    start, separator = _find_data(lines)
    first = _split(lines[start][1], separator)
    sample = _sample(lines[start:], separator)
    notes: tuple[str, ...] = ()
    if _is_numbered(sample):
        notes = (f"line {lines[start][0]} gives the numbers of columns, and is left out",)
        has_index, start, sample = sample[0][0] == "", start + 1, sample[1:]
        layout = _Layout((1, 2, 3) if has_index else (0, 1, 2), len(first))
    else:
        layout = _find_columns(lines[:start], sample, separator)
    columns = list(layout.coordinates)
    if segmented:
        columns.append(_labels_of(layout, len(first)))
    values = _read(lines[start:], separator, columns, layout)
    _check_count(lines[:start], len(values))
    if not layout.names:
        has_title = start == 2 and lines[0][1].strip().isdecimal()
        _refuse_counting(values, len(first), has_title)
    return (values[:, :3], None, notes), values[:, 3] if segmented else None


@dataclass(frozen=True)
class _Layout:
    """Which columns are what.

    Attributes:
        coordinates: Places of x, y, z.
        width: Columns of every line; those of a ragged table have at least so many.
        names: Of the columns, one each, or none.
        ragged: Whether lines end in a list of any length.
    """

    coordinates: tuple[int, int, int]
    width: int
    names: tuple[str, ...] = ()
    ragged: bool = False


# Lines -------------------------------------------------------------------------------------------


def _find_data(lines: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """The first line with three numbers or more, and what separates its columns."""
    for place, (number, line) in enumerate(lines):
        if _is_comment(line):
            continue
        for separator in _SEPARATORS:
            fields = _split(line, separator)
            if sum(map(_is_value, fields)) >= 3 and any(map(_is_number, fields)):
                _refuse_decimal_commas(number, line, separator, fields)
                return place, separator
            if sum(map(is_decimal_comma, fields)) >= 3:
                raise DataError(f"line {number}: {_decimal_comma(line)}")
    raise DataError(f"no line with three numbers; {_EXPECTED}")


def _split(line: str, separator: str) -> list[str]:
    """The fields of a line, without their quotes."""
    if separator == " " and '"' not in line:
        return line.split()
    fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    fields = [field.strip() for field in fields]
    return [field for field in fields if field] if separator == " " else fields


def _is_comment(line: str) -> bool:
    """Whether a line is a remark; one of semicolons is a table whose first field is empty."""
    text = line.lstrip()
    return text.startswith(_COMMENT_MARKS) and not (text.startswith(";") and text.count(";") > 1)


def _is_number(word: str) -> bool:
    try:
        as_number(word)
    except ValueError:
        return False
    return True


def _is_value(word: str) -> bool:
    return word.lower() in _MISSING or _is_number(word)


def _is_name(word: str) -> bool:
    return any(letter.isalpha() for letter in word) and not _is_number(word)


def _refuse_decimal_commas(number: int, line: str, separator: str, fields: list[str]) -> None:
    """Refuse numbers whose commas are taken for separators: `0,5, 1,5, 2,5` and `0,5,-0,5,1,5`."""
    if separator != ",":
        return
    wide = [word for word in re.split(r",\s+", line.strip().rstrip(",")) if word]
    halves = len(fields) >= 6 and all(field.lstrip("+-").isdecimal() for field in fields)
    odd = {"-0"} | {field for field in fields[1::2] if len(field) > 1 and field[0] == "0"}
    if (len(wide) >= 3 and all(map(is_decimal_comma, wide))) or (halves and odd & set(fields)):
        raise DataError(f"line {number}: {_decimal_comma(line)}")


def _decimal_comma(line: str) -> str:
    return f"decimal commas in {line.strip()[:40]!r}; write numbers with a decimal point, as in 0.5"


def _sample(lines: Sequence[tuple[int, str]], separator: str, most: int = 20) -> list[list[str]]:
    return [_split(line, separator) for _, line in lines[:most] if not _is_comment(line)]


# Columns -----------------------------------------------------------------------------------------


def _find_columns(
    head: Sequence[tuple[int, str]], sample: list[list[str]], separator: str
) -> _Layout:
    """Which columns are coordinates, from the lines above the data and the first rows of them."""
    width = len(sample[0])
    unnamed: list[tuple[int, str]] = []
    for place in reversed(range(len(head))):
        number, line = head[place]
        names, ragged = _names(line, separator)
        if not ragged and (_is_comment(line) or len(names) not in (width, width - 1)):
            names = _fitting(line, separator, width)
        found = coordinate_columns(names) if all(map(_is_name, filter(None, names))) else None
        if found is not None and not any(_has_digits(line) for _, line in unnamed):
            if ragged:
                return _Layout(found, len(names), tuple(names), ragged=True)
            return _named(names, found, sample, number, _is_comment(line))
        is_title = place == 1 and head[0][1].strip().isdecimal()  # as in the XYZ format
        is_names = _names_columns(line, separator, width)
        if not is_title and (is_names or not _may_be_passed_over(head, place, separator)):
            unnamed.append((number, line))
    if unnamed:
        number, line = unnamed[0]
        raise DataError(
            f"line {number}: {line.strip()[:60]!r} is neither a point nor names coordinates; name "
            "three columns x, y, z there, or remove the line"
        )
    return _Layout((0, 1, 2), width)


def _names(line: str, separator: str) -> tuple[list[str], bool]:
    """The names in a line, and whether the last one stands for a list of any length."""
    text = line.strip().lstrip("#/%!").strip() if _is_comment(line) else line
    if "[]" in text:  # COLMAP: POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (...)
        before = text[: text.index("[]")]
        return [name for name in re.split(r"[\s,;]+", before) if name][:-1], True
    if separator == " ":
        text = _UNIT.sub("", text)  # in `x [m]` the unit is no column
        fields = re.split(r"[\s,;]+", text)
        return [name for field in fields if (name := _plain(field))], False
    return [_plain(field) for field in _split(text, separator)], False


def _plain(field: str) -> str:
    """A name without quotes and numbering."""
    return _NUMBERING.sub("", field.strip(" \"'"))


def _fitting(line: str, separator: str, width: int) -> list[str]:
    """The names in a line that may hold other words: one for each column, or of the first ones.

    They may follow a word that introduces them. Sentences that contain x, y and z, such as
    'rotated about x y z', name no columns.
    """
    text = line.strip().lstrip("#/%!;").strip()
    for part in (text, _INTRODUCTION.sub("", text)):
        for names in (_names(part, separator)[0], _names(part, " ")[0]):
            found = coordinate_columns(names)
            if found and (len(names) == width or (found == (0, 1, 2) and len(names) < width)):
                return names
    return []


def _named(
    names: list[str],
    found: tuple[int, int, int],
    sample: list[list[str]],
    number: int,
    is_comment: bool,
) -> _Layout:
    """The layout that names give, shifted where the rows have an index that has no name."""
    width = len(sample[0])
    if len(names) == width - 1 and _is_index([row[0] for row in sample]):
        names, found = ["", *names], (found[0] + 1, found[1] + 1, found[2] + 1)
    if any(len(row) == len(names) for row in sample):
        return _Layout(found, len(names), tuple(names))
    spare = [field for row in sample for field in row[len(names) :]]
    if spare and not any(spare):  # every row ends with a separator
        return _Layout(found, len(names), tuple(names))
    if is_comment and len(names) < width:
        return _Layout(found, width)
    raise DataError(f"line {number} names {len(names)} columns, the rows have {width}")


def _is_index(column: list[str]) -> bool:
    """Whether a column counts rows, from 0 or 1."""
    if column[0] not in ("0", "1"):
        return False
    return column == [str(int(column[0]) + step) for step in range(len(column))]


def _names_columns(line: str, separator: str, width: int) -> bool:
    """Whether a line names columns, whatever they are.

    It does if it has a name for each of them. A comment in words may have as many by chance, so
    that there, and where the numbers differ, some of them must be what people call columns.
    """
    text = line.strip().lstrip("#/%!;").strip()
    if _ONE_COLUMN.match(text):
        return True
    text = _INTRODUCTION.sub("", text)
    names = _names(text, separator)[0]
    if separator != " " and len(names) != width:
        names = _names(text, " ")[0]
    if not names or not all(map(_is_name, names)):
        return False
    is_known = [is_column_word(name) or name.lower() in "xyz" for name in names]
    if all(is_known) and len(names) >= 3 and len(names) != width:
        return True
    if _is_comment(line) and separator == " ":
        return len(names) in (width, width - 1) and any(is_known)
    return len(names) == width


def _may_be_passed_over(head: Sequence[tuple[int, str]], place: int, separator: str) -> bool:
    """Whether a line above the data is a comment, a count or a title in words."""
    line = head[place][1].strip()
    if line.isdecimal():
        return place == 0 or not head[place - 1][1].strip().isdecimal()
    if _is_comment(line) or line == f"sep={separator}":
        return True
    if _OTHER_FORMAT.match(line):
        return False
    return _has_letters(line) and (separator == " " or separator not in line)


def _has_letters(line: str) -> bool:
    return any(letter.isalpha() for letter in line)


def _has_digits(line: str) -> bool:
    return any(letter.isdecimal() for letter in line)


def _labels_of(layout: _Layout, width: int) -> int:
    """The column of part labels."""
    if layout.names:
        column = label_column(layout.names)
        if column is None:
            named = ", ".join(name for name in layout.names if name)
            raise DataError(f"no column is called label, class, part or seg: {named}")
        return column
    if width == 3:
        raise DataError("no column beside x, y, z; expected one 'x y z [nx ny nz] part' a line")
    if width not in _LABELLED_WIDTHS:
        raise DataError(
            f"{width} columns without names: which one is the part label? name them in a first "
            f"line such as 'x y z red green blue label'; {EXPECTED_PARTS}"
        )
    return width - 1


# Values ------------------------------------------------------------------------------------------


def _read(
    lines: Sequence[tuple[int, str]], separator: str, columns: Sequence[int], layout: _Layout
) -> np.ndarray:
    """Numbers `(N, C)` of the chosen columns."""
    values = array("d")
    for number, line, fields in _rows(lines, separator):
        try:
            if not _fits(fields, layout):
                raise ValueError("columns")
            values.extend(_value(fields[column]) for column in columns)
        except (ValueError, IndexError):
            if any(map(is_decimal_comma, fields)):
                raise DataError(f"line {number}: {_decimal_comma(line)}") from None
            raise DataError(
                f"line {number}: expected {layout.width} columns with numbers for "
                f"{'x, y, z' if len(columns) == 3 else 'x, y, z and the part label'} as in the "
                f"lines before, got {line.strip()[:60]!r}"
            ) from None
    return np.array(values).reshape(-1, len(columns))


def _rows(lines: Sequence[tuple[int, str]], separator: str) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, line and fields of every row."""
    rows = [(number, line) for number, line in lines if not _is_comment(line)]
    if separator == " ":
        for number, line in rows:
            yield number, line, _split(line, separator)
        return
    reader = csv.reader((line for _, line in rows), delimiter=separator, skipinitialspace=True)
    for place, fields in enumerate(reader):
        number, line = rows[place]
        if reader.line_num != place + 1:
            raise DataError(f"line {number}: a quotation mark that is not closed")
        yield number, line, fields


def _fits(fields: list[str], layout: _Layout) -> bool:
    """Whether a row has the columns of the others; separators may follow it, or fields be empty."""
    if len(fields) == layout.width or (layout.ragged and len(fields) > layout.width):
        return True
    return len(fields) > layout.width and not any(fields[layout.width :])


def _value(field: str) -> float:
    word = field.strip()
    return math.nan if word.lower() in _MISSING else as_number(word)


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
    is_rising, is_whole = (np.diff(first) > 0).all(), (first % 1 == 0).all()
    is_time = is_rising and first.min() > _TIME and np.abs(others).max() < _TIME
    if (is_rising and is_whole) or is_time or (has_title and is_whole):
        raise DataError(
            "the first column looks like numbers or times of the rows, and columns have no names; "
            "put a line with names such as 'id x y z' above the data"
        )


def _check_count(head: Sequence[tuple[int, str]], number: int) -> None:
    """Refuse a table that has another number of rows than a line above them says."""
    for place, line in head:
        text = line.strip()
        said = text if text.isdecimal() else ""
        if _is_comment(line) and (match := _SAID.search(text)):
            said = match[1]
        if said and int(said) != number:
            raise DataError(
                f"line {place} says {int(said):,} points, there are {number:,}: the file is cut "
                "short, or of another format"
            )
