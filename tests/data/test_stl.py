"""STL meshes, binary and in the forms of text that programs write."""

import struct
from pathlib import Path

import numpy as np
import pytest

from pointpeft.errors import DataError
from tests.data.solids import CORNERS, TRIANGLES, area, read_text


def facet(corners: list[tuple[float, ...]]) -> str:
    rows = "".join(f"vertex {x} {y} {z}\n" for x, y, z in corners)
    return f"facet normal 0 0 0\nouter loop\n{rows}endloop\nendfacet\n"


FACETS = "".join(facet([CORNERS[c] for c in triangle]) for triangle in TRIANGLES)
CUBE = f"solid cube\n{FACETS}endsolid cube\n"
BINARY = b"solid of facets".ljust(80) + struct.pack("<I", len(TRIANGLES))
for triangle in TRIANGLES:
    BINARY += struct.pack("<12fH", 0, 0, 0, *(v for c in triangle for v in CORNERS[c]), 0)


@pytest.mark.parametrize(
    "text",
    [
        CUBE,
        BINARY,
        b"\xff" * 80 + BINARY[80:],
        CUBE.replace("solid cube", "solid vertex"),
        CUBE.replace("solid cube", "solid vertex 2 of endloop"),
        CUBE.replace("solid cube", "solid Vertex_normal_map facet normal"),
        CUBE.replace("solid cube", "solid outer shell, v2"),
        CUBE.replace("endsolid cube", "end solid cube"),
        CUBE.replace("endsolid cube", "ENDSOLID"),
        CUBE.replace("endsolid cube\n", ""),
        CUBE.replace("cube", ""),
        CUBE.upper(),
        CUBE.replace("\n", " "),
        CUBE.replace("\n", "\r"),
        CUBE.replace("\n", "\r\n\t  "),
        "\ufeff\n\n  " + CUBE,
        f"solid one\n{FACETS[: len(FACETS) // 2]}endsolid one\nsolid two\n"
        f"{FACETS[len(FACETS) // 2 :]}endsolid two\n",
        CUBE.replace("endsolid", facet([("-nan(ind)", 0, 0), (0, 1, 0), (0, 1, 1)]) + "endsolid"),
        CUBE.replace("endsolid", facet([("1.#QNAN", 0, 0), (0, 1, 0), (0, 1, 1)]) + "endsolid"),
        CUBE.replace("0.0", "0.000000e+00"),
    ],
)
def test_a_cube_is_a_cube(tmp_path: Path, text: str | bytes) -> None:
    shape = read_text(tmp_path / "a.stl", text)
    assert area(shape) == pytest.approx(6)
    assert np.ptp(shape.points, axis=0).tolist() == [1, 1, 1]


def test_facets_of_more_than_three_corners_are_polygons(tmp_path: Path) -> None:
    square = facet([CORNERS[c] for c in (0, 1, 3, 2)])
    text = f"solid s\n{square}endsolid s\n"
    assert area(read_text(tmp_path / "a.stl", text)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (CUBE.replace("vertex 0.0 0.0 1.0", "vertex 0,0 0,0 1,0", 1), "'0,0'"),
        (CUBE.replace("vertex 0.0 0.0 1.0", "vertex 0.0 one 1.0", 1), "'one'"),
        (CUBE.replace("vertex 0.0 0.0 1.0\n", "", 1), "line"),
        (CUBE.replace("vertex 0.0 0.0 1.0", "vertex 0.0 0.0", 1), "line"),
        (CUBE.replace("\n", " ").replace("vertex 0.0 0.0 1.0", "vertex 0.0 0.0", 1), "line 1"),
        (CUBE[: len(CUBE) // 2], "cut"),
        (CUBE[: CUBE.index("outer", 300)], "cut"),
        (CUBE[: CUBE.index("normal", 300)], "cut"),
        ("solid Empty\nendsolid Empty\n", "no"),
        (BINARY[:-1], f"{len(BINARY):,} bytes"),
        (BINARY + b"more", f"{len(BINARY):,} bytes"),
        (BINARY[:80] + bytes(4), "no points"),
        (CUBE.encode("utf-16"), "STL"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str | bytes, named: str) -> None:
    with pytest.raises(DataError, match=named):
        read_text(tmp_path / "a.stl", text)
