"""PLY files in the forms that programs write: geometry, and properties of vertices."""

import struct
from pathlib import Path

import numpy as np
import pytest

from pointpeft.errors import DataError
from tests.data.solids import CORNERS, L_SHAPE, QUADS, TRIANGLES, area, read_text

XYZ = "property float x\nproperty float y\nproperty float z\n"
ROWS = "".join(f"{x} {y} {z}\n" for x, y, z in CORNERS)
LIST = "property list uchar int vertex_indices\n"
SIDES = "".join(f"4 {a} {b} {c} {d}\n" for a, b, c, d in QUADS)
HEAD = f"ply\nformat ascii 1.0\nelement vertex 8\n{XYZ}element face 6\n{LIST}end_header\n"
CUBE = HEAD + ROWS + SIDES


def binary(order: str = "<", faces: list[tuple[int, ...]] | None = None, extra: str = "") -> bytes:
    """The cube with polygons of any sizes, and maybe a list of floats for each."""
    faces = list(QUADS) if faces is None else faces
    name = "little" if order == "<" else "big"
    head = f"ply\nformat binary_{name}_endian 1.0\nelement vertex 8\n{XYZ}"
    head += f"element face {len(faces)}\n{LIST}{extra}end_header\n"
    content = head.encode() + b"".join(struct.pack(f"{order}3f", *corner) for corner in CORNERS)
    for face in faces:
        content += struct.pack(f"{order}B{len(face)}i", len(face), *face)
        content += struct.pack(f"{order}B6f", 6, *range(6)) if extra else b""
    return content


MIXED: list[tuple[int, ...]] = [*QUADS[:3], *TRIANGLES[6:]]
STRIPS = [
    0,
    1,
    2,
    3,
    -1,
    4,
    6,
    5,
    7,
    -1,
    0,
    4,
    1,
    5,
    -1,
    2,
    3,
    6,
    7,
    -1,
    0,
    2,
    4,
    6,
    -1,
    1,
    5,
    3,
    7,
]


@pytest.mark.parametrize(
    "content",
    [
        CUBE,
        CUBE.replace("\n", "\r\n"),
        CUBE.replace("\n", "\r"),
        CUBE.replace("end_header\n", "end_header\n\n").replace("\n4 4", "\n\n  \n4 4") + "\n\n",
        CUBE.replace("1.0\nelement", "1.0\ncomment\n\nobj_info x\ncomment Gefäß\nelement", 1),
        CUBE.replace("1.0\nelement", "1.0\ncomment Gefäß\nelement", 1).encode("latin-1"),
        CUBE.replace("vertex_indices", "vertex_indexes"),
        CUBE.replace("vertex_indices", "vertex_index"),
        CUBE.replace("float", "double").replace("uchar int", "uint8 uint32"),
        CUBE.replace("property float x", "property  float   x "),
        CUBE.replace(XYZ, XYZ.replace(" x", " X").replace(" y", " Y").replace(" z", " Z")),
        HEAD.replace(LIST, LIST + "property uchar red\n") + ROWS + SIDES.replace("\n", " 9\n"),
        HEAD.replace("face 6", "face 7") + ROWS + SIDES + "2 0 1\n",
        HEAD.replace("end_h", "element edge 1\nproperty int a\nend_h") + ROWS + SIDES + "3\n",
        HEAD.replace("vertex 8", "vertex 9") + ROWS + "0.5 0.5 0.5\n" + SIDES,
        HEAD.replace("vertex 8", "vertex 9") + ROWS + "nan nan nan\n" + SIDES,
        HEAD.replace("vertex 8", "vertex 9") + ROWS + "-nan(ind) 1.#INF 0\n" + SIDES,
        binary(), binary(">"), binary("<", MIXED), binary(">", MIXED),
        binary("<", MIXED, "property list uchar float texcoord\n"),
        binary() + b"\0\0",
        f"ply\nformat ascii 1.0\nelement vertex 8\n{XYZ}element tristrips 1\n{LIST}end_header\n"
        f"{ROWS}{len(STRIPS)} {' '.join(map(str, STRIPS))}\n",
    ],
)  # fmt: skip
def test_a_cube_is_a_cube(tmp_path: Path, content: str | bytes) -> None:
    shape = read_text(tmp_path / "a.ply", content)
    assert area(shape) == pytest.approx(6)
    assert np.ptp(shape.points, axis=0).tolist() == [1, 1, 1]
    assert len(shape.points) == 8


def test_polygons_that_are_not_convex_keep_their_area(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in L_SHAPE)
    head = HEAD.replace("vertex 8", "vertex 6").replace("face 6", "face 1")
    assert area(read_text(tmp_path / "a.ply", f"{head}{rows}6 0 1 2 3 4 5\n")) == pytest.approx(5)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (CUBE[: CUBE.rindex("4")], "6 face"),
        (CUBE[: CUBE.rindex("3")], "vertex_indices"),
        (CUBE + "3 0 1 2\n", "6 face"),
        (binary()[:-1], "6 face"),
        (binary().replace(b"face 6", b"face 5"), "5 face"),
        (binary().replace(b"uchar int", b"char int").replace(b"\x04", b"\xfd", 1), "6 face"),
        (binary()[:300], "8 vertex"),
        (CUBE.replace("4 0 1 3 2", "4 0 1 3 8"), "8"),
        (CUBE.replace("vertex 8", "vertex 99999999999"), "99,999,999,999"),
        (binary().replace(b"vertex 8", b"vertex 99999999999"), "99,999,999,999"),
        (CUBE.replace("0.0 0.0 1.0", "0,0 0,0 1,0"), "x"),
        (CUBE.replace("float z\n", "float w\n"), "expected x, y and z"),
        (CUBE.replace("element vertex", "element corner"), "vertex"),
        (CUBE, "neighbours"),
        (HEAD[:60], "header"),
        ("solid x\n", "PLY"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, named: str) -> None:
    if named == "neighbours":  # and another list, so that nothing says which one it is
        content = HEAD.replace("vertex_indices", named) + ROWS + SIDES.replace("\n", " 1 0\n")
        content = content.replace("end_header", "property list uchar int others\nend_header")
    with pytest.raises(DataError, match=named):
        read_text(tmp_path / "a.ply", content)


@pytest.mark.parametrize(
    "name", ["label", "Label", "part", "class", "scalar_Classification", "scalar_Scalar_field"]
)
@pytest.mark.parametrize("kind", ["int", "uchar", "float"])
def test_labels_stay_with_their_vertices(tmp_path: Path, name: str, kind: str) -> None:
    """Also with texture coordinates and with a vertex that no face uses."""
    head = HEAD.replace("vertex 8", "vertex 9").replace(
        "element face", f"property {kind} {name}\nelement face"
    )
    rows = "".join(f"{row} {i}\n" for i, row in enumerate(["0.5 0.5 0.5", *ROWS.splitlines()]))
    sides = "".join(f"4 {a + 1} {b + 1} {c + 1} {d + 1}\n" for a, b, c, d in QUADS)
    shape = read_text(tmp_path / "a.ply", head + rows + sides, segmented=True)
    assert shape.seg is not None
    found = {tuple(p): int(label) for p, label in zip(shape.points, shape.seg, strict=True)}
    assert found == {(0.5, 0.5, 0.5): 0} | {corner: i for i, corner in enumerate(CORNERS, start=1)}
    assert area(shape) == pytest.approx(6)
