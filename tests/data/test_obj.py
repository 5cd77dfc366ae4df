"""OBJ meshes in the forms that programs write."""

from pathlib import Path

import numpy as np
import pytest

from pointpeft.errors import DataError
from tests.data.solids import CORNERS, L_SHAPE, QUADS, TRIANGLES, area, read_text

VERTICES = [f"v {x} {y} {z}" for x, y, z in CORNERS]
FACES = ["f " + " ".join(str(corner + 1) for corner in quad) for quad in QUADS]
CUBE = "\n".join(VERTICES + FACES) + "\n"


def cube(form: str) -> str:
    """The cube with corners written in a form such as `{}/1/1`."""
    faces = ["f " + " ".join(form.format(c + 1, c - 8) for c in quad) for quad in QUADS]
    return "\n".join([*VERTICES, "vt 0 0", "vn 0 0 1", *faces])


@pytest.mark.parametrize(
    "text",
    [
        CUBE,
        CUBE.replace("v ", "v\t").replace("f ", "  f \t"),
        CUBE.replace("\n", " # of the cube\n"),
        CUBE.replace("\n", "  \\\n \n").replace("\\\n \nv", "\nv").replace("\\\n \nf", "\nf"),
        CUBE.replace(" 0.0", " \\\n0.0"),
        "# saved to C:\\scans\\\n" + CUBE,
        CUBE.replace("\n", "\r"),
        CUBE.replace("\n", "\r\n"),
        "\ufeff" + CUBE,
        "mtllib gone.mtl\no a\u2028b\ng side\ns off\nusemtl x\n" + CUBE + "l 1 2\np 3\n",
        CUBE.replace("1.0\n", "1.0 1.0\n"),
        CUBE.replace("0.0\n", "0.0 0.5 0.5 0.5\n"),
        "\n".join(FACES + VERTICES),
        "v 9 9 9\n" + cube("{1}"),
        cube("{0}/1"), cube("{0}/1/1"), cube("{0}//1"), cube("{1}//-1"), cube("{1}"), cube("{0}/"),
        CUBE + "f 1 2\nf 1 1 2\n",
        "\n".join([*VERTICES, "v nan 0 0", *FACES]),
        CUBE + "# 8 vertices, 6 faces\n",
        CUBE + "# 12 faces\n",
        "# decimated from 5000 faces, 900 vertices welded\n" + CUBE,
    ],
)  # fmt: skip
def test_a_cube_is_a_cube(tmp_path: Path, text: str) -> None:
    shape = read_text(tmp_path / "a.obj", text)
    assert area(shape) == pytest.approx(6)
    assert len(shape.points) == 8
    assert np.ptp(shape.points, axis=0).tolist() == [1, 1, 1]


def test_polygons_that_are_not_convex_keep_their_area(tmp_path: Path) -> None:
    for turn in range(6):
        corners = L_SHAPE[turn:] + L_SHAPE[:turn]
        for tilted in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            rows = [f"v {c[tilted[0]]} {c[tilted[1]]} {c[tilted[2]]}" for c in corners]
            text = "\n".join([*rows, "f 1 2 3 4 5 6"])
            assert area(read_text(tmp_path / "a.obj", text)) == pytest.approx(5)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (CUBE.replace("f 1 2 4 3", "f 1 2 4 9"), "9"),
        (CUBE.replace("f 1 2 4 3", "f 0 2 4 3"), "line 9"),
        (CUBE.replace("f 1 2 4 3", "f -9 2 4 3"), "line 9"),
        (CUBE.replace("v 0.0 0.0 0.0", "v 0,0 0,0 0,0"), "line 1"),
        (CUBE.replace("v 0.0 0.0 0.0", "v 0.0 zero 0.0"), "line 1"),
        (CUBE.replace("v 0.0 0.0 0.0", "v 0.0 0.0"), "line 1"),
        ("# 8 vertices, 6 faces\n" + CUBE[: CUBE.rindex("f")], "6 faces"),
        ("# Vertices: 8\n# Faces: 6\n" + CUBE[: CUBE.rindex("f")], "6 faces"),
        (CUBE[: CUBE.rindex("f")] + "# 6 polygons\n", "6 faces"),
        (CUBE[:-4], "cut"),
        ("\n".join(VERTICES * 4 + FACES), "24 of 32"),
        ("\n".join([*VERTICES, "cstype bspline", "surf 0 1 0 1 1 2 3 4"]), "free-form"),
        (CUBE[: CUBE.index(FACES[3])], "cut"),
        (CUBE[: CUBE.index("f") - 5], "line 8"),
        ("o nothing\n", "v x y z"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        read_text(tmp_path / "a.obj", text)


def test_a_sheet_in_a_plane_and_a_large_open_mesh_are_whole(tmp_path: Path) -> None:
    flat = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 0 0\nv 2 1 0\nf 1 2 3 4\nf 2 5 6 3\n"
    assert area(read_text(tmp_path / "a.obj", flat)) == pytest.approx(2)
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = [(np.cos(t), z, np.sin(t)) for z in (0.0, 1.0) for t in turns]
    rows = [f"v {x} {y} {z}" for x, y, z in ring]
    rows += [f"f {i + 1} {(i + 1) % 12 + 1} {(i + 1) % 12 + 13} {i + 13}" for i in range(12)]
    assert read_text(tmp_path / "b.obj", "\n".join(rows)).faces is not None


def test_vertices_without_faces_are_a_cloud(tmp_path: Path) -> None:
    shape = read_text(tmp_path / "a.obj", "\ufeff" + "\n".join(VERTICES))
    assert shape.faces is None
    assert len(shape.points) == 8


def test_separate_triangles_are_whole(tmp_path: Path) -> None:
    rows, faces = [], []
    for triangle in TRIANGLES[:3]:
        faces.append(f"f {len(rows) + 1} {len(rows) + 2} {len(rows) + 3}")
        rows += [f"v {x} {y} {z}" for x, y, z in (CORNERS[c] for c in triangle)]
    assert area(read_text(tmp_path / "a.obj", "\n".join(rows + faces))) == pytest.approx(1.5)
