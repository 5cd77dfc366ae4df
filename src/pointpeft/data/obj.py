"""Reader of Wavefront OBJ meshes (`.obj`): vertices, faces and points, without materials."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pointpeft.data.text import as_number, decode_text, is_decimal_comma, split_lines
from pointpeft.data.triangles import Geometry, triangulate
from pointpeft.errors import DataError

__all__ = ["parse_obj"]

_COMMENT = re.compile(r"#[^\r\n]*")
_COUNTED = re.compile(
    r"#\W*(?:\d+\s+(?:vertices|faces|polygons)|(?:vertices|faces)\s*[:=]\s*\d+)"
    r"(?:[\s,;-]+\d+\s+[a-z]\w*)*\W*",
    re.I,
)
"""A comment that holds counts and nothing else."""
_COUNTS = re.compile(r"(\d+)\s+(vertices|faces|polygons)\b|(vertices|faces)\s*[:=]\s*(\d+)", re.I)
"""Numbers that many exporters write in a comment, the only ones that an OBJ file has."""
_FEW = 16
"""Below so many vertices a folded sheet and a solid that lacks faces cannot be told apart."""


_TAIL = 0.25
"""Part of the vertices at the end of the list that no face uses, above which faces are missing."""


class _Obj:
    """What the lines of a file have given so far."""

    def __init__(self) -> None:
        self.vertices: list[tuple[float, float, float]] = []
        self.corners: list[int] = []
        self.sizes: list[int] = []
        self.has_surface = False

    def read_line(self, words: list[str]) -> None:
        """Take in one logical line; kinds without geometry are passed over."""
        if words[0] == "v":
            self.vertices.append(_coordinates(words[1:]))
        elif words[0] in ("curv", "curv2", "surf"):
            self.has_surface = True
        elif words[0] in ("f", "fo"):
            self.corners += [self._number(word) for word in words[1:]]
            self.sizes.append(len(words) - 1)

    def _number(self, word: str) -> int:
        """The vertex, counted from 0, of a corner `v`, `v/vt`, `v//vn` or `v/vt/vn`."""
        number = int(word.partition("/")[0])
        if number == 0 or number < -len(self.vertices):
            raise ValueError(f"a face names vertex {number}")
        return number - 1 if number > 0 else len(self.vertices) + number


def parse_obj(content: bytes) -> Geometry:
    """Vertices and triangulated faces of an OBJ file; without faces a cloud.

    Raises:
        DataError: It holds no vertex, a line is not as it should be, a face names a vertex that
            does not exist, or faces are missing.
    """
    text = decode_text(content)
    found = _Obj()
    words, line = [""], ""
    for number, line in _logical_lines(text):
        words = line.split()
        try:
            found.read_line(words)
        except ValueError as error:
            raise DataError(f"line {number}: {error}, in {line.strip()[:60]!r}") from error
    if found.sizes and found.sizes[-1] < 3 and words[0] in ("f", "fo"):
        raise DataError(f"the file is cut short in its last face, {line.strip()[:60]!r}")
    if not found.vertices:
        raise DataError("not an OBJ file, or one without geometry: no line 'v x y z'")
    points = np.array(found.vertices)
    _check_counts(text, len(points), found.sizes)
    if found.has_surface and not found.sizes:
        raise DataError("holds free-form curves or surfaces, which are not read; save it as a mesh")
    if not found.sizes:
        return points, None, ()
    if max(found.corners, default=0) >= len(points):
        raise DataError(f"a face names vertex {max(found.corners) + 1}, there are {len(points)}")
    _refuse_missing_faces(points, found)
    return points, triangulate(points, found.corners, found.sizes), ()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, continued ones joined, without comments and empty ones.

    A backslash at the end of a comment, such as that of a path, continues nothing.
    """
    before = ""
    lines = split_lines(text)
    for number, line in enumerate(lines, start=1):
        code, mark, _ = line.partition("#")
        code = before + code.rstrip()
        before = ""
        if code.endswith("\\") and not mark:
            before = code[:-1] + " "
            code = before if number == len(lines) else ""
        if code.strip():
            yield number, code


def _coordinates(words: list[str]) -> tuple[float, float, float]:
    """The first three numbers of a vertex line; a weight or a colour may follow."""
    try:
        x, y, z = (as_number(word) for word in words[:3])
    except ValueError:
        hint = "; write numbers with a decimal point" if any(map(is_decimal_comma, words)) else ""
        raise ValueError(f"expected 'v x y z'{hint}") from None
    return x, y, z


def _check_counts(text: str, num_vertices: int, sizes: list[int]) -> None:
    """Refuse a file with fewer vertices or faces than its comments say."""
    said = {"vertices": 0, "faces": 0}
    comments = [line for line in _COMMENT.findall(text) if _COUNTED.fullmatch(line)]
    for match in _COUNTS.finditer("\n".join(comments)):
        kind = (match[2] or match[3]).lower().replace("polygons", "faces")
        said[kind] = max(said[kind], int(match[1] or match[4]))
    num_triangles = sum(size - 2 for size in sizes if size > 2)
    for kind, number in (("vertices", num_vertices), ("faces", len(sizes))):
        is_in_triangles = kind == "faces" and said[kind] == num_triangles
        if number < said[kind] and not is_in_triangles:
            raise DataError(
                f"the file is cut short: a comment says {said[kind]:,} {kind}, it has {number:,}"
            )


def _refuse_missing_faces(points: np.ndarray, found: _Obj) -> None:
    """Refuse a handful of faces that look like the rest of a solid whose file was cut.

    The format does not say how many faces there are. Where one border runs through all of fewer
    than 16 vertices that do not lie in a plane, nothing tells a folded sheet from a cut file.
    """
    used = sorted(set(found.corners))
    unused_end = len(points) - 1 - used[-1] if used else 0
    if len(used) > 2 and unused_end >= _FEW and unused_end > _TAIL * len(points):
        raise DataError(
            f"its last {unused_end:,} of {len(points):,} vertices belong to no face: the file is "
            "cut short in its faces"
        )
    if not 4 <= len(used) < _FEW or len(found.sizes) < 2 or not np.isfinite(points[used]).all():
        return
    ends = np.cumsum(found.sizes)
    edges = Counter[frozenset[int]]()
    for start, end in itertools.pairwise([0, *ends]):
        face = found.corners[start:end]
        edges.update(map(frozenset, zip(face, face[1:] + face[:1], strict=True)))
    border = [set(edge) for edge, faces in edges.items() if faces == 1]
    loop = set(border[0]) if border else set()
    while grown := [edge for edge in border if edge & loop and not edge <= loop]:
        loop.update(*grown)
    flatness = np.linalg.svd(points[used] - points[used].mean(axis=0), compute_uv=False)
    if len(loop) == len(used) and flatness[2] > 1e-6 * flatness[0]:
        raise DataError(
            f"its {len(found.sizes)} faces leave open a border through all {len(used)} vertices: "
            "the file may be cut short in its faces, which an OBJ file does not count; if it is "
            "whole, save it as PLY, which does"
        )
