"""Text of a shape file: decoded, split into lines, and its numbers."""

import re

from pointpeft.errors import DataError

__all__ = ["as_number", "decode_text", "is_decimal_comma", "refuse_stand_in", "split_lines"]

_UTF8_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""How texts in UTF-16 and UTF-32 begin."""
_HEAD = 4096
"""Bytes at the beginning of a file that show what kind of text it is, if any."""
_NAN = re.compile(r"[-+]?(?:nan\([^)\s]*\)|1\.#(?:IND|QNAN|SNAN)\d*)", re.IGNORECASE)
_INFINITY = re.compile(r"([-+]?)1\.#INF\d*", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_LINE_END = re.compile(r"\r\n|\r|\n")


def decode_text(content: bytes) -> str:
    """The text of a file, without a byte order mark; NaN and infinity get their plain spelling.

    What is no UTF-8 is taken for Windows-1252, in which older programs write names.

    Raises:
        DataError: It is UTF-16, UTF-32 or binary.
    """
    content = content.removeprefix(_UTF8_MARK)
    if b"\0" in content[:_HEAD] or content.startswith(_WIDE_MARKS):
        raise DataError("binary data, or text in UTF-16 or UTF-32; save text in UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "#" in text or "(" in text:
        text = _INFINITY.sub(r"\1inf", _NAN.sub("nan", text))
    return text


def refuse_stand_in(head: bytes) -> None:
    """Refuse what often lies where a shape should be: a web page, a Git LFS pointer.

    Raises:
        DataError: It is one of them.
    """
    start = head.removeprefix(_UTF8_MARK).lstrip()[:100].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml version")):
        raise DataError("a web page or XML document, not a shape; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise DataError("a Git LFS pointer, not the file; fetch it with 'git lfs pull'")


def split_lines(text: str) -> list[str]:
    """The lines of a text, ended by any of the three line ends.

    `str.splitlines` also splits at characters that may stand in a name, such as U+2028.
    """
    return _LINE_END.split(text)


def as_number(word: str) -> float:
    """The number that a word spells.

    Raises:
        ValueError: It is none. Python's digit groups (`1_000`) are none in a file.
    """
    if "_" in word:
        raise ValueError(f"not a number: {word!r}")
    return float(word)


def is_decimal_comma(word: str) -> bool:
    """Whether a word is a number with a comma for its decimal point, such as `0,5`."""
    return _DECIMAL_COMMA.fullmatch(word.strip()) is not None
