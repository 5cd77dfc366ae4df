"""The text of a table: which lines are data, and what stands above them."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pointpeft.data.column_names import coordinate_columns, is_column_word
from pointpeft.data.text import as_number, is_decimal_comma
from pointpeft.errors import DataError

__all__ = [
    "MISSING",
    "Layout",
    "decimal_comma",
    "find_columns",
    "find_data",
    "is_comment",
    "split_fields",
]

_COMMENT_MARKS = ("#", "//", "%", ";", "!")
_SEPARATORS = (";", "\t", ",", "|", " ")
"""What may stand between columns, tried in this order; a space stands for any white space."""
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-nan", "+nan"})
"""What programs write for a value that is not there, in small letters."""
_EXPECTED = "expected one 'x y z' or 'x,y,z' a line"


def find_data(lines: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """The first line with three numbers or more, and what separates its columns."""
    for place, (number, line) in enumerate(lines):
        if is_comment(line):
            continue
        for separator in _SEPARATORS:
            fields = split_fields(line, separator)
            if sum(map(_is_value, fields)) >= 3 and any(map(_is_number, fields)):
                _refuse_decimal_commas(number, line, separator, fields)
                return place, separator
            if sum(map(is_decimal_comma, fields)) >= 3:
                raise DataError(f"line {number}: {decimal_comma(line)}")
    raise DataError(f"no line with three numbers; {_EXPECTED}")


def split_fields(line: str, separator: str) -> list[str]:
    """The fields of a line, without their quotes."""
    if separator == " " and '"' not in line:
        return line.split()
    fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    fields = [field.strip() for field in fields]
    return [field for field in fields if field] if separator == " " else fields


def is_comment(line: str) -> bool:
    """Whether a line is a remark; one of semicolons is a table whose first field is empty."""
    text = line.lstrip()
    return text.startswith(_COMMENT_MARKS) and not (text.startswith(";") and text.count(";") > 1)


def _is_number(word: str) -> bool:
    """Whether a word spells a number, NaN and infinity included."""
    try:
        as_number(word)
    except ValueError:
        return False
    return True


def _is_value(word: str) -> bool:
    return word.lower() in MISSING or _is_number(word)


def _refuse_decimal_commas(number: int, line: str, separator: str, fields: list[str]) -> None:
    """Refuse numbers whose commas are taken for separators: `0,5, 1,5, 2,5` and `0,5,-0,5,1,5`."""
    if separator != ",":
        return
    wide = [word for word in re.split(r",\s+", line.strip().rstrip(",")) if word]
    halves = len(fields) >= 6 and all(field.lstrip("+-").isdecimal() for field in fields)
    odd = {"-0"} | {field for field in fields[1::2] if len(field) > 1 and field[0] == "0"}
    if (len(wide) >= 3 and all(map(is_decimal_comma, wide))) or (halves and odd & set(fields)):
        raise DataError(f"line {number}: {decimal_comma(line)}")


def decimal_comma(line: str) -> str:
    """What to say of a line with decimal commas."""
    return f"decimal commas in {line.strip()[:40]!r}; write numbers with a decimal point, as in 0.5"


_INTRODUCTION = re.compile(
    r"^(?:[^:=;,\t]*[:=]|fields|columns?|header|names?|data|format|labels?)[\s,;]+", re.IGNORECASE
)
"""What may stand before the names of columns in a comment: `columns:`, `FIELDS`."""
_NUMBERING = re.compile(r"^\d+\s*[:.)=]\s*")
"""What may stand before a name that says which column it is of: `1:x`."""
_ONE_COLUMN = re.compile(r"(?:column|col|field)\s*\d+\s*[:=]", re.IGNORECASE)
"""A line that says what one column is, beside others that say it of others."""
_OTHER_FORMAT = re.compile(r"ncols\b|nrows\b|.*\bDATAPACKING\s*=\s*BLOCK", re.IGNORECASE)
"""First words of grids and of tables stored column after column."""
_UNIT = re.compile(r"[\[({][^\])}]*[\])}]")


@dataclass(frozen=True)
class Layout:
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


def find_columns(
    head: Sequence[tuple[int, str]], sample: list[list[str]], separator: str
) -> Layout:
    """Which columns are coordinates, from the lines above the data and the first rows of them."""
    width = len(sample[0])
    unnamed: list[tuple[int, str]] = []
    for place in reversed(range(len(head))):
        number, line = head[place]
        names, ragged = _names(line, separator)
        if not ragged and (is_comment(line) or len(names) not in (width, width - 1)):
            names = _fitting(line, separator, width)
        found = coordinate_columns(names) if all(map(_is_name, filter(None, names))) else None
        if found is not None and not any(map(str.isdecimal, "".join(line for _, line in unnamed))):
            if ragged:
                return Layout(found, len(names), tuple(names), ragged=True)
            return _named(names, found, sample, number, is_comment(line))
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
    return Layout((0, 1, 2), width)


def _names(line: str, separator: str) -> tuple[list[str], bool]:
    """The names in a line, and whether the last one stands for a list of any length."""
    text = line.strip().lstrip("#/%!").strip() if is_comment(line) else line
    if "[]" in text:  # COLMAP: POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (...)
        before = text[: text.index("[]")]
        return [name for name in re.split(r"[\s,;]+", before) if name][:-1], True
    if separator == " ":
        text = _UNIT.sub("", text)  # in `x [m]` the unit is no column
        fields = re.split(r"[\s,;]+", text)
        return [name for field in fields if (name := _plain(field))], False
    return [_plain(field) for field in split_fields(text, separator)], False


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
) -> Layout:
    """The layout that names give, shifted where the rows have an index that has no name."""
    width = len(sample[0])
    firsts = [row[0] for row in sample]
    counting = [list(map(str, range(start, start + len(sample)))) for start in (0, 1)]
    if len(names) == width - 1 and firsts in counting:
        names, found = ["", *names], (found[0] + 1, found[1] + 1, found[2] + 1)
    spare = [field for row in sample for field in row[len(names) :]]
    ends_in_separators = bool(spare) and not any(spare)
    if ends_in_separators or any(len(row) == len(names) for row in sample):
        return Layout(found, len(names), tuple(names))
    if is_comment and len(names) < width:
        return Layout(found, width)
    raise DataError(f"line {number} names {len(names)} columns, the rows have {width}")


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
    if is_comment(line) and separator == " ":
        return len(names) in (width, width - 1) and any(is_known)
    return len(names) == width


def _may_be_passed_over(head: Sequence[tuple[int, str]], place: int, separator: str) -> bool:
    """Whether a line above the data is a comment, a count or a title in words."""
    line = head[place][1].strip()
    if line.isdecimal():
        return place == 0 or not head[place - 1][1].strip().isdecimal()
    if is_comment(line) or line == f"sep={separator}":
        return True
    if _OTHER_FORMAT.match(line):
        return False
    return any(map(str.isalpha, line)) and (separator == " " or separator not in line)


def _is_name(word: str) -> bool:
    return any(map(str.isalpha, word)) and not _is_number(word)
