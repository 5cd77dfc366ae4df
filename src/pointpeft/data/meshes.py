"""Readers of STL meshes (`.stl`), binary and text, and of OFF meshes (`.off`) with any prefix."""

import re

import numpy as np

from pointpeft.data.text import as_number, decode_text, split_lines
from pointpeft.data.triangles import Geometry, triangulate
from pointpeft.errors import DataError

__all__ = ["parse_off", "parse_stl"]

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

    Raises:
        DataError: It is neither form, is cut short, or a number is none.
    """
    count = int.from_bytes(content[_HEADER - 4 : _HEADER], "little")
    expected = _HEADER + count * _TRIANGLE.itemsize
    if len(content) == expected:
        rows = np.frombuffer(content, _TRIANGLE, offset=_HEADER)
        points = rows["corners"].reshape(-1, 3).astype(np.float64)
        return points, np.arange(len(points)).reshape(-1, 3), ()
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower()
    if start not in (b"solid", b"facet") or b"\0" in content[:_HEADER]:
        raise DataError(
            "not an STL file, or cut short or too long: it does not begin with 'solid', and a "
            f"binary one with its header has {expected:,} bytes, this one has {len(content):,}"
        )
    return _parse_facets(decode_text(content))


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
            line = len(split_lines(text[: text.find(stray[0])]))
            raise DataError(
                f"line {line} or later: a facet without three vertices of three numbers each"
            )
    if gaps[-1].strip() and not _END.search(gaps[-1]):
        raise DataError("the file is cut short: no 'endsolid' at its end")
    if not loops:
        raise DataError("holds no points: there is no facet in it")
    words = [word for loop in loops for word in loop]
    del words[::4]  # "vertex"
    try:
        points = np.array([as_number(word) for word in words]).reshape(-1, 3)
    except ValueError as error:
        raise DataError(f"a vertex holds what is not a number ({error})") from error
    sizes = [len(loop) // 4 for loop in loops]
    faces = triangulate(points, np.arange(len(points)), sizes)
    return points, faces, () if _END.search(gaps[-1]) else (_NO_END,)


_KEYWORD = re.compile(r"(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)")
_BESIDE = {"ST": 2, "C": 4, "N": 3}
"""Numbers beside x, y, z that each prefix adds to a vertex."""

Row = list[str]


def parse_off(content: bytes) -> Geometry:
    """Vertices and triangulated faces of an OFF file.

    Raises:
        DataError: It is no OFF text, holds less than its header says, or a number is none.
    """
    lines = [line.partition("#")[0].split() for line in split_lines(decode_text(content))]
    rows = [line for line in lines if line]
    keyword = _KEYWORD.match(rows[0][0]) if rows else None
    if rows and len(rows[0]) == 3 and all(word.isdecimal() for word in rows[0]):
        keyword = _KEYWORD.match("OFF")  # the word may be left out
        rows.insert(0, ["OFF"])
    if keyword is None:
        raise DataError("not an OFF file: its first word is not OFF")
    if keyword[4] or keyword[5]:
        raise DataError(f"{keyword[0]}: points of other than three dimensions are not read")
    rows[0][0] = rows[0][0][keyword.end() :]  # ModelNet40 has files that begin with "OFF490 518 0"
    rows[0] = [word for word in rows[0] if word]
    if rows[0][:1] == ["BINARY"]:
        raise DataError("a binary OFF file, which is not read; save it as text or as PLY")
    rows = [row for row in rows if row]
    try:
        vertices, faces = _by_lines(rows) or _by_words(rows, keyword)
        points = np.array([[as_number(word) for word in row] for row in vertices]).reshape(-1, 3)
        corners = [int(word) for face in faces for word in face]
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"not a number where one is due ({error})") from error
    if not faces:
        return points, None, ()
    return points, triangulate(points, corners, [len(face) for face in faces]), ()


def _by_lines(rows: list[Row]) -> tuple[list[Row], list[Row]] | None:
    """Coordinates and faces of a file with a line for each; None: it has another form.

    Whatever follows on a line, such as a colour, is left out.
    """
    if not rows or len(rows[0]) not in (2, 3):
        return None
    counts = [int(word) for word in rows[0]]
    end = 1 + counts[0]
    vertices, faces = rows[1:end], rows[end : end + counts[1]]
    if len(vertices) < counts[0] or len(faces) < counts[1]:
        return None
    is_by_lines = len(rows) == end + counts[1]
    short = [
        f"vertex {number}"
        for number, row in enumerate(vertices, start=1)
        if len(row) < 3 or len(row) != len(vertices[0])
    ] or [
        f"face {number}"
        for number, row in enumerate(faces, start=1)
        if not 0 <= int(row[0]) < len(row)
    ]
    if short and is_by_lines:
        raise DataError(f"{short[0]} is not whole")
    if short:
        return None
    if not is_by_lines:
        raise DataError(f"has {len(rows) - end:,} faces, its header says {counts[1]:,}")
    return [row[:3] for row in vertices], [row[1 : 1 + int(row[0])] for row in faces]


def _by_words(rows: list[Row], keyword: re.Match[str]) -> tuple[list[Row], list[Row]]:
    """Coordinates and faces of a file in which line ends mean nothing."""
    words = [word for row in rows for word in row]
    if len(words) < 3:
        raise DataError("the file is cut short: no numbers of vertices and faces")
    num_vertices, num_faces = int(words[0]), int(words[1])
    width = 3 + sum(count for prefix, count in _BESIDE.items() if prefix in keyword.groups())
    at = 3 + num_vertices * width
    vertices = [words[start : start + 3] for start in range(3, min(at, len(words)), width)]
    faces: list[Row] = []
    while len(faces) < num_faces and at < len(words):
        end = at + 1 + int(words[at])
        if not at < end <= len(words):
            break
        faces.append(words[at + 1 : end])
        at = end
    if len(faces) < num_faces or at > len(words):
        whole = min(len(words) - 3, num_vertices * width) // width
        raise DataError(
            f"the file is cut short: its header says {num_vertices:,} vertices and {num_faces:,} "
            f"faces, it has {whole:,} and {len(faces):,}"
        )
    if at < len(words):
        raise DataError(f"has {len(words) - at:,} numbers more than its header says")
    return vertices, faces
