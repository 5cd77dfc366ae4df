"""OFF meshes in the forms that programs write."""

from pathlib import Path

import pytest

from pointpeft.errors import DataError
from tests.data.solids import CORNERS, L_SHAPE, QUADS, area, read_text

ROWS = "".join(f"{x} {y} {z}\n" for x, y, z in CORNERS)
FACES = "".join(f"4 {a} {b} {c} {d}\n" for a, b, c, d in QUADS)
CUBE = "OFF\n8 6 12\n" + ROWS + FACES


def beside(word: str, values: str) -> str:
    """The cube with more numbers at each vertex."""
    return f"{word}\n8 6 0\n" + ROWS.replace("\n", f" {values}\n") + FACES


@pytest.mark.parametrize(
    "text",
    [
        CUBE,
        CUBE.replace("OFF\n", "OFF "),
        CUBE.replace("OFF\n", "OFF"),
        CUBE.replace("OFF\n", ""),
        CUBE.replace("OFF", "off"),
        CUBE.replace("8 6 12", "8 6"),
        "\ufeff" + CUBE,
        "# a comment of OFF\n" + CUBE.replace("\n", " # c\n").replace("8 6", "\n\n8 6"),
        CUBE.replace("\n", "\r\n"),
        CUBE.replace(" ", "\n").replace("OFF\n", "OFF "),
        CUBE.replace("\n", " "),
        CUBE.replace("\n4", "\t\n  4"),
        beside("NOFF", "0 0 1"),
        beside("COFF", "255 0 0 255"),
        beside("COFF", "0.5 0.5 0.5"),
        beside("OFF", "255 0 0"),
        beside("CNOFF", "1 0 0 1 0 0 1"),
        beside("STOFF", "0.5 0.5"),
        beside("NOFF", "0 0 1").replace("\n", " "),
        "OFF\n8 6 0\n" + ROWS + FACES.replace("\n", "  255 0 0\n"),
        "OFF\n8 6 0\n" + ROWS + FACES.replace("\n", " 0.5 0.5 0.5 1\n"),
        "OFF\n9 6 0\n" + ROWS + "nan nan nan\n" + FACES,
    ],
)
def test_a_cube_is_a_cube(tmp_path: Path, text: str) -> None:
    shape = read_text(tmp_path / "a.off", text)
    assert area(shape) == pytest.approx(6)
    assert len(shape.points) == 8


def test_polygons_that_are_not_convex_keep_their_area(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in L_SHAPE)
    assert area(read_text(tmp_path / "a.off", f"OFF 6 1 0\n{rows}6 0 1 2 3 4 5")) == 5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (CUBE[: CUBE.index("4 0 4")], "6 faces"),
        (CUBE[: CUBE.rindex("3")], "face 6"),
        (CUBE.replace("0.0 1.0 1.0", "0.0 1.0"), "vertex 4"),
        (CUBE.replace("\n", " ") + " 7", "1 numbers more"),
        (CUBE[:40], "8 vertices"),
        (CUBE + "3 0 1 2\n", "7 faces"),
        (CUBE.replace("4 0 1 3 2", "4 0 1 3 8"), "8"),
        (CUBE.replace("4 0 1 3 2", "4 0 1 3 -1"), "-1"),
        (CUBE.replace("0.0 0.0 1.0", "0.0 zero 1.0"), "zero"),
        ("4OFF\n1 0 0\n0 0 0 0\n", "4OFF"),
        ("nOFF\n2\n1 0 0\n0 0\n", "nOFF"),
        ("OFF BINARY\n\1\2", "binary"),
        ("OFF\n999999999999 6 0\n" + ROWS, "999,999,999,999"),
        ("ply\n", "OFF"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        read_text(tmp_path / "a.off", text)


def test_vertices_without_faces_are_a_cloud(tmp_path: Path) -> None:
    assert read_text(tmp_path / "a.off", f"OFF\n8 0 0\n{ROWS}").faces is None
