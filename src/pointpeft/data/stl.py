"""Reader of STL meshes (`.stl`), binary and text."""

import re

import numpy as np

from pointpeft.data.polygons import Geometry, triangulate
from pointpeft.data.text import as_number, decode_text, is_decimal_comma
from pointpeft.errors import DataError

__all__ = ["parse_stl"]

_HEADER = 84
"""Bytes before the triangles of a binary file; the last four are their number."""
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_FACET = re.compile(
    r"\bfacet\s+normal\s+\S+\s+\S+\s+\S+\s+outer\s+loop\s+"
    r"((?:vertex\s+\S+\s+\S+\s+\S+\s+){3,})endloop\s+endfacet\b",
    re.IGNORECASE,
)
_STRAY = re.compile(r"\bouter\s+loop\b|\bendloop\b|\bendfacet\b|\bvertex\s+[-+.\d]", re.IGNORECASE)
"""Pieces of a facet; where they stand outside a whole one, the file is damaged or cut."""
_SOLID = re.compile(r"\b(?:end\s*)?solid\b(?:(?!\bfacet\s+normal\s)[^\r\n])*", re.IGNORECASE)
"""The name of a solid, which may be any words, up to the end of its line."""
_END = re.compile(r"\bend\s*solid\b", re.IGNORECASE)
_NO_END = "no 'endsolid' at its end: read as far as it goes"


def parse_stl(content: bytes) -> Geometry:
    """Triangles of an STL file.

    Args:
        content: The whole file.

    Raises:
        DataError: It is neither form, is cut short, or a number is none.
    """
    if len(content) == _binary_size(content):
        rows = np.frombuffer(content, _TRIANGLE, offset=_HEADER)
        points = rows["corners"].reshape(-1, 3).astype(np.float64)
        return points, np.arange(len(points)).reshape(-1, 3), ()
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower()
    if start not in (b"solid", b"facet") or b"\0" in content[:_HEADER]:
        raise DataError(_not_binary(content))
    return _parse_facets(decode_text(content))


def _binary_size(content: bytes) -> int | None:
    """Bytes that a binary file with this header has; None: it is too short to have one."""
    if len(content) < _HEADER:
        return None
    return _HEADER + int.from_bytes(content[_HEADER - 4 : _HEADER], "little") * _TRIANGLE.itemsize


def _not_binary(content: bytes) -> str:
    expected = _binary_size(content)
    if expected is None:
        return "not an STL file: neither a binary one nor one that begins with 'solid'"
    return (
        f"not an STL file, or {'cut short' if len(content) < expected else 'too long'}: a binary "
        f"one with the triangles that its header says has {expected:,} bytes, this one has "
        f"{len(content):,}"
    )


def _parse_facets(text: str) -> Geometry:
    """Triangles of the text form; only whole facets count, whatever a solid is called."""
    loops, last, gaps = [], 0, []
    for facet in _FACET.finditer(text):
        loops.append(facet[1].split())
        gaps.append(text[last : facet.start()])
        last = facet.end()
    gaps.append(text[last:])
    for gap in (_SOLID.sub("", gap) for gap in gaps):
        if (stray := _STRAY.search(gap)) and (gap != gaps[-1] or _END.search(gap)):
            at = _line_of(text, text.find(stray[0]))
            raise DataError(
                f"line {at} or later: a facet without three vertices of three numbers each"
            )
    if gaps[-1].strip() and not _END.search(gaps[-1]):
        raise DataError("the file is cut short: no 'endsolid' at its end")
    if not loops:
        raise DataError("holds no points: there is no facet in it")
    words = [word for loop in loops for word in loop]
    del words[::4]  # "vertex"
    try:
        points = np.array([as_number(word) for word in words]).reshape(-1, 3)
    except ValueError:
        raise DataError(_not_a_number(text)) from None
    sizes = [len(loop) // 4 for loop in loops]
    faces = triangulate(points, np.arange(len(points)), sizes)
    return points, faces, () if _END.search(gaps[-1]) else (_NO_END,)


def _not_a_number(text: str) -> str:
    """Which word of which line is no number."""
    for vertex in re.finditer(r"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", text, re.IGNORECASE):
        for word in vertex.groups():
            try:
                as_number(word)
            except ValueError:
                hint = "; write it with a decimal point" if is_decimal_comma(word) else ""
                return f"line {_line_of(text, vertex.start())}: {word!r} is not a number{hint}"
    return "a vertex without three numbers"


def _line_of(text: str, position: int) -> int:
    lines = text[:position].replace("\r\n", "\n").replace("\r", "\n")
    return lines.count("\n") + 1
