"""Lines of a table in text: which are data, what separates their fields, which are comments."""

import csv
import re
from collections.abc import Sequence

from pointpeft.data.text import as_number, is_decimal_comma
from pointpeft.errors import DataError

__all__ = [
    "MISSING",
    "decimal_comma",
    "find_data",
    "is_comment",
    "is_number",
    "sample_rows",
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
            if sum(map(_is_value, fields)) >= 3 and any(map(is_number, fields)):
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


def is_number(word: str) -> bool:
    """Whether a word spells a number, NaN and infinity included."""
    try:
        as_number(word)
    except ValueError:
        return False
    return True


def _is_value(word: str) -> bool:
    return word.lower() in MISSING or is_number(word)


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


def sample_rows(
    lines: Sequence[tuple[int, str]], separator: str, most: int = 20
) -> list[list[str]]:
    """The fields of the first lines that are no comments."""
    return [split_fields(line, separator) for _, line in lines[:most] if not is_comment(line)]
