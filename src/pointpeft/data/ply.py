"""PLY files: read the geometry and the vertex properties of any, and write labelled clouds."""

import colorsys
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from plyfile import PlyElement

from pointpeft.data.text import decode_text
from pointpeft.data.triangles import Geometry, strip_triangles, triangulate
from pointpeft.errors import DataError
from pointpeft.files import replacing

__all__ = ["parse_ply", "part_colors", "write_labelled_ply"]

_AXES, _CHANNELS = ("x", "y", "z"), ("red", "green", "blue")
_VERTEX_ELEMENTS = ("vertex", "vertices", "point", "points")
_FACE_ELEMENTS = ("face", "faces", "polygon", "polygons")
_CORNERS = re.compile(r"vert(ex|ices)?_?(ind(ex|ices|exes)|ids?)|indices", re.IGNORECASE)
"""Names under which exporters list the corners of a face."""
_HEADER_END = re.compile(rb"(?<=[\r\n])[ \t]*end_header[ \t]*(\r\n|\n|\r)")
_UNSIGNED = {
    "char": "uchar", "int8": "uint8", "short": "ushort", "int16": "uint16",
    "int": "uint", "int32": "uint32",
}  # fmt: skip
"""Types of the lengths of lists, which are never negative."""
_LINE_ENDS = re.compile(r"[\r\n]+")
_BYTES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2,
    "int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4,
    "double": 8, "float64": 8,
}  # fmt: skip
_DOUBLE = {"float": "double", "float32": "double"}
"""Text says more digits than single precision holds."""
_PADDING = 3
"""Bytes that may follow the data, to fill up a word."""
_CUT = "the file is cut short"
_GOLDEN_RATIO = (1 + 5**0.5) / 2
_SATURATION, _BRIGHTNESS = 0.65, 0.9


def parse_ply(content: bytes) -> tuple[Geometry, dict[str, np.ndarray]]:
    """Geometry of a PLY file, and what it says of its vertices.

    Polygons and triangle strips become triangles; other elements are passed over.

    Returns:
        The geometry, and each scalar property of a vertex, `(N,)`, by its name.

    Raises:
        DataError: It is no PLY file, lacks coordinates, or holds more or less than it says.
    """
    from plyfile import PlyData, PlyParseError

    header, body = _split(content)
    _check_promise(header, body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty lists
            stream = io.BytesIO(header.text + body)
            data = PlyData.read(stream, mmap=False)
    except PlyParseError as error:
        if "early end-of" in str(error):
            raise DataError(f"{_CUT}: its header says {header.said} ({error})") from error
        raise DataError(f"cannot be read as ply ({error})") from error
    rest = b"" if header.is_text else stream.read()
    if len(rest) > _PADDING and rest.strip(b"\0\r\n "):
        raise DataError(f"has {len(rest):,} bytes more than its header says ({header.said})")
    elements = {element.name.lower(): element for element in data.elements}
    vertex = next((elements[name] for name in _VERTEX_ELEMENTS if name in elements), None)
    if vertex is None:
        raise DataError(f"no element 'vertex' among {', '.join(elements) or 'none'}")
    columns = {
        item.name: np.asarray(vertex[item.name])
        for item in vertex.properties
        if not hasattr(item, "len_dtype")
    }
    points = _points(columns)
    faces = [triangulate(points, *polygons) for polygons in _polygons(elements)]
    triangles = np.concatenate(faces) if any(map(len, faces)) else None
    return (points, triangles, ()), columns


@dataclass(frozen=True)
class _Header:
    """The header of a file in the one form that plyfile takes, and what is needed of it.

    Attributes:
        text: Its lines, without comments.
        is_text: Whether the data behind it are text.
        promise: For each element its name, number of rows and least size of a row, in bytes of a
            binary file or numbers of a text.
    """

    text: bytes
    is_text: bool
    promise: tuple[tuple[str, int, int], ...]

    @property
    def said(self) -> str:
        """How much of what the file holds by its header, in words."""
        return ", ".join(f"{rows:,} {name}" for name, rows, _ in self.promise)


def _split(content: bytes) -> tuple[_Header, bytes]:
    """The header, and the data behind it; of text without the empty lines between rows."""
    if not content.startswith(b"ply"):
        raise DataError("not a PLY file: it does not begin with 'ply'")
    end = _HEADER_END.search(content)
    if end is None:
        raise DataError(f"{_CUT}: its header has no end")
    words = [line.split() for line in _LINE_ENDS.split(content[: end.start()].decode("latin-1"))]
    lines = [line for line in words if line and line[0] not in ("comment", "obj_info")]
    form = next((line[1] for line in lines if line[0] == "format" and len(line) > 1), "")
    promise: list[tuple[str, int, int]] = []
    for line in lines:
        if line[0] == "element" and len(line) == 3 and line[2].isdecimal():
            promise.append((line[1], int(line[2]), 0))
        elif line[0] == "property" and promise and len(line) > 2:
            kind = line[2] if line[1] == "list" else line[1]
            name, rows, least = promise[-1]
            promise[-1] = (name, rows, least + (1 if form == "ascii" else _BYTES.get(kind, 0)))
    for line in lines:
        if line[:2] == ["property", "list"] and len(line) > 2:
            line[2] = _UNSIGNED.get(line[2], line[2])
    body = content[end.end() :]
    if form == "ascii":
        rows_of_text = [row for row in _LINE_ENDS.split(decode_text(body)) if row.strip()]
        body = "".join(f"{row}\n" for row in rows_of_text).encode("ascii", errors="replace")
        lines = [
            [_DOUBLE.get(word, word) if line[0] == "property" else word for word in line]
            for line in lines
        ]
    text = "".join(" ".join(line) + "\n" for line in [*lines, ["end_header"]])
    return _Header(text.encode("latin-1"), form == "ascii", tuple(promise)), body


def _check_promise(header: _Header, body: bytes) -> None:
    """Refuse a header that says more than the data can hold, before anything is allocated."""
    if any(rows and not least for _, rows, least in header.promise):
        raise DataError("an element without properties of a known type")
    needed = sum(rows * least for _, rows, least in header.promise)
    if header.is_text:
        rows, held = sum(rows for _, rows, _ in header.promise), body.count(b"\n")
        if held != rows:
            raise DataError(
                f"cut short, or not as its header says: {rows:,} lines ({header.said}), it has "
                f"{held:,}"
            )
        needed *= 2  # a digit and a space each
    if len(body) < needed:
        raise DataError(
            f"{_CUT}: its header says {header.said}, which need more than {len(body):,} bytes"
        )


def _points(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Coordinates `(N, 3)` float64 of the properties x, y and z, in small letters or capitals."""
    for axes in (_AXES, ("X", "Y", "Z")):
        if all(axis in columns for axis in axes):
            return np.stack([columns[axis] for axis in axes], axis=1).astype(np.float64)
    raise DataError(f"vertices have {', '.join(columns) or 'nothing'}: expected x, y and z")


def _polygons(elements: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Corners and sizes of faces, and of the triangles of strips."""
    for name in _FACE_ELEMENTS:
        if name in elements and elements[name].count:
            yield _corners(elements[name])
    if "tristrips" in elements and elements["tristrips"].count:
        corners, sizes = _corners(elements["tristrips"])
        for strip in np.split(corners, np.cumsum(sizes)[:-1]):
            breaks = np.flatnonzero(strip < 0)  # a negative number begins a new strip
            pieces = [strip_triangles(piece[piece >= 0]) for piece in np.split(strip, breaks)]
            triangles = np.concatenate(pieces)
            yield triangles.ravel(), np.full(len(triangles), 3)


def _corners(element: PlyElement) -> tuple[np.ndarray, np.ndarray]:
    """The vertex numbers that all rows of an element list, `(C,)`, and how many each lists."""
    lists = [item.name for item in element.properties if hasattr(item, "len_dtype")]
    named = [name for name in lists if _CORNERS.fullmatch(name)]
    if not named and len(lists) != 1:
        raise DataError(
            f"element {element.name} has lists {lists}: expected one called vertex_indices"
        )
    name = (named or lists)[0]
    corners = np.concatenate(list(element[name]))
    if corners.dtype.kind not in "iu":
        raise DataError(f"{name} of element {element.name} are no whole numbers")
    return corners.astype(np.int64), np.fromiter(map(len, element[name]), dtype=np.int64)


# Writing -----------------------------------------------------------------------------------------


def write_labelled_ply(path: str | Path, points: np.ndarray, seg: np.ndarray) -> None:
    """Write a cloud with a colour and an integer property `part` for every point.

    Args:
        path: The file, replaced only when the new one is complete.
        points: `(N, 3)`, written in double precision.
        seg: Part labels `(N,)`.
    """
    from plyfile import PlyData, PlyElement

    kinds = [(axis, "<f8") for axis in _AXES] + [(channel, "u1") for channel in _CHANNELS]
    rows = np.empty(len(points), dtype=[*kinds, ("part", "<i4")])
    columns = (*points.T, *part_colors(seg).T, seg)
    for name, column in zip(rows.dtype.names or (), columns, strict=True):
        rows[name] = column
    with replacing(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(temporary))


def part_colors(seg: np.ndarray) -> np.ndarray:
    """Colours `(N, 3)` uint8 of part labels `(N,)`, the same for a label wherever it occurs.

    Hues are steps of the golden ratio around the circle, so that near labels differ well.
    """
    labels, places = np.unique(seg, return_inverse=True)
    hues = labels / _GOLDEN_RATIO % 1
    table = [colorsys.hsv_to_rgb(hue, _SATURATION, _BRIGHTNESS) for hue in hues]
    return np.rint(255 * np.array(table)).astype(np.uint8)[places]
