"""Clouds in text: the columns that names say, whatever separates them, or a refusal."""

from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import read_shape
from pointpeft.errors import DataError

CLOUD = np.round(np.random.default_rng(7).normal(size=(20, 3)), 4)
LABELS = np.arange(20) % 3


def write(path: Path, head: str, columns: str, separator: str = ",", tail: str = "") -> Path:
    """A table with a head and columns: x, y, z, counts from 0 or 1, labels, halves, words."""
    known = {"x": CLOUD[:, 0], "y": CLOUD[:, 1], "z": CLOUD[:, 2], "l": LABELS}
    known |= {"i": np.arange(20), "o": np.arange(1, 21), "0": np.full(20, 0.5)}
    words = {"t": ["chair"] * 20, "e": [""] * 20, "q": ['"a, b"'] * 20}
    rows = zip(*(words.get(c) or [f"{v:g}" for v in known[c]] for c in columns), strict=True)
    body = "".join(separator.join(row) + tail + "\n" for row in rows)
    path.write_text(head + body)
    return path


@pytest.mark.parametrize(
    "names",
    [
        "x,y,z", "X,Y,Z", '"x","y","z"', "'x','y','z'", " x , y , z ", "x [m],y [m],z [m]",
        "X(m),Y(m),Z(m)", "x_mm,y_mm,z_mm", "pos_x,pos_y,pos_z", "posX,posY,posZ", "px,py,pz",
        "point_x,point_y,point_z", "position.x,position.y,position.z", "x_coord,y_coord,z_coord",
        "X-coordinate,Y-coordinate,Z-coordinate", "Points:0,Points:1,Points:2",
        "Points_0,Points_1,Points_2", "Points_m_XYZ:0,Points_m_XYZ:1,Points_m_XYZ:2",
        "coords[x],coords[y],coords[z]", "Easting,Northing,Height", "E,N,Z", "X,Y,Elevation",
        "East [m],North [m],Altitude [m]", "Rechtswert,Hochwert,Höhe", "//X,Y,Z", "#x,y,z",
        "# columns: x,y,z", "% x,y,z", "# x y z", "UTM_E (m),UTM_N (m),Z (m)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_named_coordinates_are_found(tmp_path: Path, names: str, encoding: str) -> None:
    path = write(tmp_path / "a.csv", names + "\n", "xyz")
    path.write_text(path.read_text(), encoding=encoding)
    assert np.allclose(read_shape(path).points, CLOUD)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["", "x", "y", "z"], "ixyz"),
        (["Unnamed: 0", "x", "y", "z"], "ixyz"),
        (["id", "Easting", "Northing", "Elevation"], "oxyz"),
        (["time", "z", "intensity", "y", "x"], "0zlyx"),
        (["Normals:0", "Normals:1", "Normals:2", "Points:0", "Points:1", "Points:2"], "000xyz"),
        (["nx", "ny", "nz", "pos_x", "pos_y", "pos_z"], "000xyz"),
        (["name", "x", "y", "z"], "qxyz"),
        (["x", "y", "z", "intensity"], "xyze"),
        (["label", "x", "y", "z"], "txyz"),
        (["vx", "vy", "vz", "X (mm)", "Y (mm)", "Z (mm)"], "000xyz"),
    ],
)
def test_columns_may_stand_in_any_order_beside_others(
    tmp_path: Path, names: list[str], columns: str, separator: str
) -> None:
    path = write(tmp_path / "a.csv", separator.join(names) + "\n", columns, separator)
    assert np.allclose(read_shape(path).points, CLOUD)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("", "xyz"),
        ("20\n", "xyz0"),
        ("20\nmade by hand\n", "xyz"),
        ("20\n\n", "xyz"),
        ("FIELDS x y z rgb\n", "xyz0"),
        ("# label x y z\n", "lxyz"),
        ('"" "x" "y" "z"\n', "oxyz"),
        ('"x" "y" "z"\n', "oxyz"),
        (" x y z\n", "ixyz"),
        ("x [m] y [m] z [m]\n", "xyz"),
        ("# rotated about x y z by 0 0 90\n", "xyz00000"),
        ("# seen from above, x y z and so on\n", "xyz00000"),
        ("# made with a scanner\n# x y z nx ny nz\n", "xyz000"),
        ("A scan of a chair, by hand\n", "xyz"),
        ("X Y Z\nm m m\n", "xyz"),
        ("# x y z\n", "xyz00"),
        ("//X Y Z\n", "xyz0"),
    ],
)
def test_lines_above_the_data_of_a_text(tmp_path: Path, head: str, columns: str) -> None:
    for tail in ("", " ", "\t"):
        path = write(tmp_path / "a.txt", head, columns, " ", tail)
        assert np.allclose(read_shape(path).points, CLOUD)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\n\n"])
def test_line_ends_and_empty_lines(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "a.xyz", "", "xyz", "  ")
    path.write_bytes(path.read_bytes().replace(b"\n", ending.encode()))
    assert np.allclose(read_shape(path).points, CLOUD)


@pytest.mark.parametrize(("head", "columns"), [("0,1,2\n", "xyz"), (",0,1,2\n", "ixyz")])
def test_a_row_of_numbers_of_columns_is_no_point(tmp_path: Path, head: str, columns: str) -> None:
    shape = read_shape(write(tmp_path / "a.csv", head, columns))
    assert np.allclose(shape.points, CLOUD)
    assert shape.notes


def test_points_of_colmap_end_in_lists_of_any_length(tmp_path: Path) -> None:
    head = (
        "# 3D point list with one line of data per point:\n"
        "#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
        "# Number of points: 20, mean track length: 2.5\n"
    )
    rows = [
        f"{i} {x} {y} {z} 10 20 30 0.7 " + " ".join(["1 5"] * (1 + i % 3)) + "\n"
        for i, (x, y, z) in enumerate(CLOUD)
    ]
    (tmp_path / "points3D.txt").write_text(head + "".join(rows))
    assert np.allclose(read_shape(tmp_path / "points3D.txt").points, CLOUD)


@pytest.mark.parametrize(
    ("head", "columns", "named"),
    [
        ("a,b,c\n", "xyz", "line 1"),
        ("nx,ny,nz\n", "xyz", "line 1"),
        ("r,g,b,intensity\n", "xyz0", "line 1"),
        ("distance,azimuth,elevation\n", "xyz", "line 1"),
        ("longitude,latitude,altitude\n", "xyz", "line 1"),
        ("x,y\n", "xyz", "line 1"),
        ("x,y,z,x,y,z\n", "xyzxyz", "'x'"),
        ("x,y,z\n", "xyz0", "4"),
        ("x y z\n", "xyz0", "line 1"),
        ("sep=,\na,b,c\n", "xyz", "line 2"),
        ("-- -- --\n", "xyz", "line 1"),
        ("--,--,--\n", "xyz", "line 1"),
        ("# a,b,c\n", "xyz", "line 1"),
        ("", "ixyz", "first column"),
        ("", "oxyz0", "first column"),
        ("30\n", "xyz", "30"),
        ("8\n5\n", "xyz", "line"),
        ("local_x,local_y,local_z,world_x,world_y,world_z\n", "xyzxyz", "two sets"),
    ],
)  # fmt: skip
def test_tables_without_known_coordinates_are_refused(
    tmp_path: Path, head: str, columns: str, named: str
) -> None:
    with pytest.raises(DataError, match=named):
        read_shape(write(tmp_path / "a.csv", head, columns))


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("# timestamp tx ty tz qx qy qz qw\n", "ixyz0000"),
        ("# nx ny nz\n", "xyz"),
        ("# id x y\n", "xyz"),
        ("z x y\n", "zxy00"),
        ("# x z y r g b\n", "xzy0000"),
        ("# column 1: t\n# column 2: x\n# column 3: y\n# column 4: z\n", "0xyz"),
        ("ncols 3\nnrows 20\nNODATA_value -9999\n", "xyz"),
        ("20\nwater\n", "oxyz"),
        ("# Number of points: 50\n", "xyz"),
        ("x y z\n50\n", "xyz"),
    ],
)
def test_words_above_a_text_that_say_something_else_are_not_passed_over(
    tmp_path: Path, head: str, columns: str
) -> None:
    with pytest.raises(DataError):
        read_shape(write(tmp_path / "a.txt", head, columns, " "))


@pytest.mark.parametrize(
    ("names", "columns"),
    [("x,y,e,n,h", "xy00z"), ("x,y,h,n", "xyz0"), ("E,N,Z", "xyz"), ("# 1:z 2:x 3:y", "zxy")],
)
def test_letters_come_before_what_surveyors_say(tmp_path: Path, names: str, columns: str) -> None:
    shape = read_shape(write(tmp_path / "a.csv", names + "\n", columns))
    assert np.allclose(shape.points, CLOUD)


def test_numbers_and_times_of_rows_are_no_coordinates(tmp_path: Path) -> None:
    for first in (101 + 7.0 * np.arange(20), 1.6e9 + 0.1 * np.arange(20), 0.1 * np.arange(20)):
        np.savetxt(tmp_path / "a.xyz", np.column_stack([first, CLOUD]), fmt="%.12g")
        with pytest.raises(DataError, match="first column"):
            read_shape(tmp_path / "a.xyz")


def test_decimal_commas_among_commas_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("12,05,13,25,4,75\n" * 20)
    with pytest.raises(DataError, match="decimal point"):
        read_shape(tmp_path / "a.csv")


@pytest.mark.parametrize("separator", [" ", ";", "\t", ", ", ","])
def test_decimal_commas_are_named(tmp_path: Path, separator: str) -> None:
    row = separator.join(["0,5", "-0,25", "1,75"])
    (tmp_path / "a.txt").write_text(f"{row}\n" * 20)
    with pytest.raises(DataError, match="decimal point"):
        read_shape(tmp_path / "a.txt")
    (tmp_path / "b.csv").write_text('x;y;z\n"0,5";"1,5";"2,5"\n')
    with pytest.raises(DataError, match="decimal point"):
        read_shape(tmp_path / "b.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text_is_refused_by_its_name(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.txt", "", "xyz", " ")
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(DataError, match=r"UTF-(16|32)"):
        read_shape(path)


@pytest.mark.parametrize(
    "last", ["1 2", "1 2 3 4", "1 two 3", "1_0 2 3", "EOF", "O 0.1 0.2 0.3", "1,5 2 3"]
)
def test_a_line_unlike_the_others_is_named(tmp_path: Path, last: str) -> None:
    path = write(tmp_path / "a.xyz", "", "xyz", " ")
    path.write_text(path.read_text() + last + "\n")
    with pytest.raises(DataError, match="line 21"):
        read_shape(path)


def test_a_quotation_mark_that_is_not_closed_swallows_no_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "name,x,y,z\n", "txyz")
    path.write_text(path.read_text().replace("chair", '"chair', 1))
    with pytest.raises(DataError, match="line 2"):
        read_shape(path)


@pytest.mark.parametrize("word", ["nan", "NaN", "-nan(ind)", "1.#QNAN", "inf", "-1.#INF", "", "NA"])
def test_values_that_are_missing_leave_out_their_point(tmp_path: Path, word: str) -> None:
    path = write(tmp_path / "a.csv", "x,y,z\n", "xyz")
    path.write_text(path.read_text().replace(f"\n{CLOUD[0, 0]:g},", f"\n{word},", 1))
    shape = read_shape(path)
    assert np.allclose(shape.points, CLOUD[1:])
    assert "1 of 20" in shape.notes[0]


# Part labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("x,y,z,label\n", "xyzl"),
        ("x,y,z,labels,intensity\n", "xyzl0"),
        ("X,Y,Z,Classification,Intensity\n", "xyzl0"),
        ("x,y,z,intensity,class\n", "xyz0l"),
        ("//X,Y,Z,R,G,B,Scalar_label\n", "xyz000l"),
        ("x,y,z,scalar_Classification,scalar_Intensity\n", "xyzl0"),
        ("x,y,z,scalar_Scalar_field\n", "xyzl"),
        ("x,y,z,part_id,time\n", "xyzl0"),
        (",x,y,z,seg\n", "ixyzl"),
        ("# columns: x,y,z,label,intensity\n", "xyzl0"),
        ("", "xyzl"),
        ("", "xyz000l"),
    ],
)
def test_part_labels_are_found_by_name(tmp_path: Path, head: str, columns: str) -> None:
    shape = read_shape(write(tmp_path / "a.csv", head, columns), segmented=True)
    assert np.allclose(shape.points, CLOUD)
    assert shape.seg is not None
    assert shape.seg.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("head", "said"),
    [("x,y,z,scalar_Label\n", ""), ("x,y,z,scalar_3\n", "scalar_3"), ("", "names of columns")],
)
def test_labels_that_nothing_calls_so_are_noted(tmp_path: Path, head: str, said: str) -> None:
    shape = read_shape(write(tmp_path / "a.csv", head, "xyzl"), segmented=True)
    assert said in "".join(shape.notes)
    assert bool(shape.notes) == bool(said)


@pytest.mark.parametrize("name", ["scalar_Label", "scalar_3"])
def test_labels_of_other_files_that_nothing_calls_so_are_noted(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", points=CLOUD, **{name: LABELS})
    rows = "".join(f"{x} {y} {z} {part}\n" for (x, y, z), part in zip(CLOUD, LABELS, strict=True))
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    head = f"ply\nformat ascii 1.0\nelement vertex 20\n{properties}property float {name}\n"
    (tmp_path / "a.ply").write_text(f"{head}end_header\n{rows}")
    for file in ("a.npz", "a.ply"):
        shape = read_shape(tmp_path / file, segmented=True)
        assert shape.seg is not None
        assert shape.seg.tolist() == LABELS.tolist()
        assert [name in note for note in shape.notes] == ([] if "Label" in name else [True])


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("x,y,z,intensity\n", "xyzl"),
        ("x,y,z,scalar_Intensity\n", "xyzl"),
        ("x,y,z,r,g,b\n", "xyzlll"),
        ("x,y,z,label,class\n", "xyzll"),
        ("", "xyz"),
        ("", "xyz0l"),
        ("", "xyzlll"),
        ("", "xyzl0"),
    ],
)
def test_other_columns_do_not_become_part_labels(tmp_path: Path, head: str, columns: str) -> None:
    with pytest.raises(DataError):
        read_shape(write(tmp_path / "a.csv", head, columns), segmented=True)


# Other files under the name of a text ------------------------------------------------------------


def test_an_off_file_is_known_by_its_content(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in CLOUD)
    for head in ("OFF\n20 0 0\n", "OFF20 0 0\n", "# a\noff # b\n20 0 0\n", "OFF\n# a\n20 0 0\n"):
        (tmp_path / "a.txt").write_text(head + rows)
        shape = read_shape(tmp_path / "a.txt")
        assert np.allclose(shape.points, CLOUD)
        assert shape.notes
    for head in ("OFF BINARY\n20 0 0\n", "4OFF\n20 0 0\n"):
        (tmp_path / "c.txt").write_text(head + rows)
        with pytest.raises(DataError, match="OFF"):
            read_shape(tmp_path / "c.txt")
    (tmp_path / "b.txt").write_text("OFFSET OF A SENSOR\n" + rows)
    assert np.allclose(read_shape(tmp_path / "b.txt").points, CLOUD)


@pytest.mark.parametrize("separator", [" ", ",", ";", "\t"])
@pytest.mark.parametrize("odd", ["", "# said twice", "nan 1 2", '"1" 2 3', "1e0 2.5 -3E-1"])
def test_plain_rows_and_odd_ones_give_the_same_numbers(tmp_path, separator, odd):
    """Plain tables take a faster way, which most odd rows end."""
    rows = [separator.join(f"{value:.17g}" for value in point) for point in CLOUD]
    (tmp_path / "plain.csv").write_text("\n".join(rows))
    odd = odd if odd.startswith("#") else odd.replace(" ", separator)
    (tmp_path / "odd.csv").write_text("\n".join([*rows[:9], odd, *rows[9:]]))
    plain = read_shape(tmp_path / "plain.csv").points
    assert np.array_equal(plain, CLOUD)
    points = read_shape(tmp_path / "odd.csv").points
    others = np.delete(points, 9, axis=0) if len(points) > len(CLOUD) else points
    assert np.array_equal(others, CLOUD)


def test_ply_and_pcd_files_are_known_by_their_content(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z} 7\n" for x, y, z in CLOUD)
    ply = "ply\nformat ascii 1.0\nelement vertex 20\n" + "".join(
        f"property float {name}\n" for name in ("x", "y", "z", "w")
    )
    pcd = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z w\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
    pcd += "WIDTH 20\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 20\nDATA ascii\n"
    for name, text in (("a.txt", ply + "end_header\n" + rows), ("b.xyz", pcd + rows)):
        (tmp_path / name).write_text(text)
        shape = read_shape(tmp_path / name)
        assert np.allclose(shape.points, CLOUD)
        assert shape.notes


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>1 2 3</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234\n",
    ],
)
def test_what_stands_in_for_a_download_is_named(tmp_path: Path, content: bytes) -> None:
    for suffix in ("txt", "obj", "npy", "glb", "ply"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"web page|Git LFS"):
            read_shape(path)
