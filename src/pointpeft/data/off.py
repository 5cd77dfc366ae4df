"""Reader of OFF meshes (`.off`): text, with any of the prefixes for what stands beside x, y, z."""

import re

import numpy as np

from pointpeft.data.polygons import Geometry, triangulate
from pointpeft.data.text import as_number, decode_text, split_lines
from pointpeft.errors import DataError

__all__ = ["parse_off"]

_KEYWORD = re.compile(r"(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)")
_BESIDE = {"ST": 2, "C": 4, "N": 3}
"""Numbers beside x, y, z that each prefix adds to a vertex."""

Row = list[str]


def parse_off(content: bytes) -> Geometry:
    """Vertices and triangulated faces of an OFF file.

    Args:
        content: The whole file.

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
    for number, row in enumerate(vertices, start=1):
        if len(row) < 3 or len(row) != len(vertices[0]):
            _refuse(is_by_lines, f"vertex {number}", row)
            return None
    sizes = [int(row[0]) for row in faces]
    for number, (size, row) in enumerate(zip(sizes, faces, strict=True), start=1):
        if not 0 <= size < len(row):
            _refuse(is_by_lines, f"face {number}", row)
            return None
    if not is_by_lines:
        raise DataError(f"has {len(rows) - end:,} faces, its header says {counts[1]:,}")
    return [row[:3] for row in vertices], [
        row[1 : 1 + size] for size, row in zip(sizes, faces, strict=True)
    ]


def _refuse(is_by_lines: bool, name: str, row: Row) -> None:
    """Refuse a line that is too short where each vertex and face has one of its own."""
    if is_by_lines:
        raise DataError(f"{name} is not whole: {' '.join(row)[:60]!r}")


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
