"""The page reads a file as the library does, or refuses it."""

import io

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.errors import DataError
from tests.exporting.page_readers import area_and_centroid, needs_node, run

pytestmark = needs_node

READ = """
import { readShape } from "./read.js";
function run(files) {
  return files.map((file) => {
    try {
      const { points, faces, notes } = readShape(file, new Uint8Array(readFileSync(file)).buffer);
      return { points: [...points], faces, notes };
    } catch (error) { return { error: error.message }; }
  });
}
"""
RANDOM = np.random.default_rng(0)
CLOUD = RANDOM.normal(size=(40, 3)).round(4)
# A prism on an L, so that two of its eight polygons are not convex.
L = np.array([[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]], float)
PRISM = np.concatenate([np.c_[L, np.zeros(6)], np.c_[L, np.full(6, 1.5)]]).round(4)
SIDES = [[i, (i + 1) % 6, (i + 1) % 6 + 6, i + 6] for i in range(6)]
POLYGONS = [[5, 4, 3, 2, 1, 0], [6, 7, 8, 9, 10, 11], *SIDES]


def rows(values):
    return "".join(" ".join(map(str, row)) + "\n" for row in values)


def ply(points, polygons, form, number="double"):
    """A PLY file, with a property and an element that no reader needs."""
    properties = "".join(f"property {number} {axis}\n" for axis in "xyz")
    head = (
        f"ply\nformat {form} 1.0\ncomment made here\nelement edge 1\nproperty uchar weight\n"
        f"element vertex {len(points)}\n{properties}property uchar red\n"
        f"element face {len(polygons)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if form == "ascii":
        body = "7\n" + rows([*p, 9] for p in points) + rows([len(f), *f] for f in polygons)
        return (head + body).encode()
    order = "<" if "little" in form else ">"
    kind = [("p", f"{order}f{8 if number == 'double' else 4}", 3), ("red", "u1")]
    vertices = np.array([(tuple(p), 9) for p in points], dtype=kind)
    faces = b"".join(bytes([len(f)]) + np.array(f, f"{order}i4").tobytes() for f in polygons)
    return head.encode() + b"\7" + vertices.tobytes() + faces


def obj(points, polygons):
    vertices = "".join(f"v {x} {y} {z} 0.5\n" for x, y, z in points)
    faces = "".join("f " + " ".join(f"{n + 1}/1" for n in face) + "\n" for face in polygons)
    return f"# a shape\n{vertices}vt 0 0\n{faces}".encode()


def off(points, polygons):
    faces = rows([len(face), *face] for face in polygons)
    return f"OFF\n{len(points)} {len(polygons)} 0\n# corners\n{rows(points)}{faces}".encode()


def triangles():
    return [[f[0], f[i], f[i + 1]] for f in SIDES for i in (1, 2)]


def binary_stl():
    kind = [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")]
    faces = np.zeros(len(triangles()), kind)
    faces["corners"] = PRISM[triangles()]
    return b"solid but binary".ljust(80) + np.uint32(len(faces)).tobytes() + faces.tobytes()


def text_stl():
    facets = (
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex " + " ".join(map(str, PRISM[n])) + "\n" for n in face)
        + "endloop\nendfacet\n"
        for face in triangles()
    )
    return f"solid of facets\n{''.join(facets)}endsolid\n".encode()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


FORMS = ("ascii", "binary_little_endian", "binary_big_endian")
CSV = "id,x,y,z\n" + "".join(f"{i},{x},{y},{z}\n" for i, (x, y, z) in enumerate(CLOUD))
WHOLE = {
    **{f"mesh-{form}.ply": ply(PRISM, POLYGONS, form) for form in FORMS},
    **{f"cloud-{form}.ply": ply(CLOUD, [], form, "float") for form in FORMS},
    "mesh.obj": obj(PRISM, POLYGONS), "cloud.obj": obj(CLOUD, []),
    "mesh.off": off(PRISM, POLYGONS), "cloud.off": off(CLOUD, []),
    "binary.stl": binary_stl(), "text.stl": text_stl(),
    "plain.xyz": rows(CLOUD).encode(),
    "counted.xyz": f"{len(CLOUD)}\n{rows(CLOUD)}".encode(),
    "semicolon.txt": rows(CLOUD).replace(" ", ";").replace("\n", "\r\n").encode(),
    "normals.txt": ("# x y z nx ny nz\n" + rows(np.c_[CLOUD, CLOUD])).encode(),
    "named.csv": CSV.encode(),
    "remark.csv": ("# x y z\n" + rows(CLOUD).replace(" ", ",")).encode(),
    "order.csv": ("z,y,x\n" + rows(CLOUD).replace(" ", ",")).encode(),
    "index.csv": ("," + CSV[3:]).encode(),
    "missing.csv": CSV.replace(str(CLOUD[3, 1]), "nan").encode(),
    "float.npy": npy(CLOUD.astype(np.float32)), "big.npy": npy(CLOUD.astype(">f8")),
    "turned.npy": npy(np.asfortranarray(np.c_[CLOUD, CLOUD])),
    "whole.npy": npy((100 * CLOUD).astype(np.int64)),
}  # fmt: skip


def compare(folder, contents, tolerance=1e-9):
    """For each file: "same", "refused" by the page, or what differs."""
    files = []
    for name, content in contents.items():
        files.append(folder / name)
        files[-1].write_bytes(content)
    found = run(folder, READ, [str(file) for file in files])
    return {
        file.name: verdict(file, one, tolerance) for file, one in zip(files, found, strict=True)
    }


def verdict(file, found, tolerance):
    if "error" in found:
        return "refused"
    points = np.array(found["points"], dtype=float).reshape(-1, 3)
    try:
        shape = pp.data.read_shape(file)
    except DataError as error:
        return f"read {len(points)} points, the library refuses: {error}"
    if found["faces"] is None or shape.faces is None:
        same = shape.faces is None and not found["faces"] and np.array_equal(points, shape.points)
        return "same" if same else "other points"
    ours = area_and_centroid(shape.points, shape.faces)
    area, centroid = area_and_centroid(points, np.array(found["faces"], dtype=int).reshape(-1, 3))
    is_same = np.isclose(area, ours[0], rtol=tolerance)
    is_same &= np.allclose(centroid, ours[1], atol=tolerance, equal_nan=True)
    return "same" if is_same else f"area {area}, the library {ours[0]}"


def test_whole_files_are_read_as_by_the_library(tmp_path):
    found = compare(tmp_path, WHOLE)
    assert found == dict.fromkeys(WHOLE, "same")


def damaged(name, content, random):
    """The file cut short, without a line, and with a byte that is another one."""
    for place in random.integers(1, len(content), 6):
        yield f"cut-{place}-{name}", content[:place]
    lines = content.splitlines(keepends=True)
    for place in random.integers(0, len(lines), 4):
        yield f"line-{place}-{name}", b"".join([*lines[:place], *lines[place + 1 :]])
    for place in random.integers(0, len(content), 10):
        other = random.choice(list(b"\0 9-.,;#xe\n\xff"))
        yield (
            f"byte-{place}-{other}-{name}",
            content[:place] + bytes([other]) + content[place + 1 :],
        )


def test_damaged_files_are_refused_or_read_as_by_the_library(tmp_path):
    random = np.random.default_rng(1)
    files = dict(each for name in WHOLE for each in damaged(name, WHOLE[name], random))
    # A polygon whose corners left its plane has no surface of its own.
    found = compare(tmp_path, files, tolerance=0.02)
    assert {name: one for name, one in found.items() if one not in ("same", "refused")} == {}


TABLE = rows(np.c_[CLOUD, CLOUD[:, ::-1]])
AMBIGUOUS = {
    "numbered.txt": "".join(f"{i} {x} {y} {z}\n" for i, (x, y, z) in enumerate(CLOUD)),
    "normals-first.txt": f"# nx ny nz x1 y1 z1\n{TABLE}",
    "surveyed.txt": f"# height northing easting a b c\n{TABLE}",
    "paraview.csv": "N:0,N:1,N:2,P:0,P:1,P:2\n" + TABLE.replace(" ", ","),
    "other-names.csv": "a,b,c,d,e,f\n" + TABLE.replace(" ", ","),
    "fewer-names.csv": "x,y,z\n" + CSV.partition("\n")[2],
    "commas.txt": rows(CLOUD).replace(".", ","),
    "decimal.csv": "".join(f"{i},5,{i},25,{i % 7},75\n" for i in range(20)),
    "ragged.xyz": rows(CLOUD) + "1 2\n",
    "page.txt": "<!doctype html>\n<p>1 2 3</p>\n",
    "grid.txt": "ncols 3\nnrows 2\n1 2 3\n4 5 6\n",
    "counted-wrong.xyz": f"99\n{rows(CLOUD)}",
    "hexadecimal.obj": "v 0x1 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "zero.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n",
    "curve.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\ncurv 0 1 1 2 3\n",
    "bow.off": "OFF\n4 1 0\n0 0 0\n1 1 0\n1 0 0\n0 3 0\n4 0 1 2 3\n",
    "binary.off": "OFF BINARY\n",
    "four.off": "4OFF\n1 0 0\n1 2 3 4\n",
    "no-z.ply": "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
    "unknown.ply": "ply\nformat ascii 1.0\nelement vertex 1\nproperty half x\nend_header\n1\n",
    "no-format.ply": "ply\nelement vertex 1\nproperty float x\nend_header\n1\n",
    "empty.stl": "solid a\nendsolid a\n",
}  # fmt: skip


def test_what_could_mean_something_else_is_refused(tmp_path):
    files = {name: text.encode() for name, text in AMBIGUOUS.items()}
    files |= {"wide.txt": rows(CLOUD).encode("utf-16"), "half.npy": npy(CLOUD.astype(np.float16)),
              "transposed.npy": npy(CLOUD.T), "flat.npy": npy(CLOUD.ravel())}  # fmt: skip
    assert compare(tmp_path, files) == dict.fromkeys(files, "refused")


USUAL = {
    "negative.obj": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 -2 -1\n",
    "continued.obj": "# c:\\\nv 0 0 \\\n0\nv 1 0 0\nv 0 1 0 # corner\nf 1 2 \\\n3\n",
    "one-line.off": "OFF4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3 255 0 0\n",
    "coloured.off": "COFF 3 1 0 0 0 0 1 1 1 1 1 0 0 1 1 1 1 0 1 0 1 1 1 1 3 0 1 2",
    "loud.stl": text_stl().decode().upper(),
    "strips.ply": "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    "property float z\nelement tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    "0 0 0\n1 0 0\n0 1 0\n1 1 0\n4 0 1 2 3\n",
    "capitals.ply": "ply\r\nformat ascii 1.0\r\nelement point 1\r\nproperty float X\r\n"
    "property float Y\r\nproperty float Z\r\nend_header\r\n1 2 3\r\n",
    "keyhole.off": "OFF\n10 1 0\n0 0 0\n4 0 0\n4 4 0\n0 4 0\n0 0 0\n1 1 0\n1 3 0\n3 3 0\n3 1 0\n"
    "1 1 0\n10 0 1 2 3 4 5 6 7 8 9\n",
    "remark.xyz": f"# made by a scanner in 2021\n{rows(CLOUD)}",
    "gaps.txt": rows(CLOUD).replace("\n", "\n\n# next\n"),
    "unused.obj": "v nan 0 0\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 2 3 4\n",
}


def test_usual_forms_are_read_as_by_the_library(tmp_path):
    files = {name: text.encode() for name, text in USUAL.items()}
    found = compare(tmp_path, files)
    assert found == dict.fromkeys(files, "same")


def test_faces_of_any_number_of_corners_are_read(tmp_path):
    corners = RANDOM.normal(size=(150_000, 3)).round(2)
    strip = " ".join(map(str, range(len(corners))))
    turns = np.linspace(0, 2 * np.pi, len(corners), endpoint=False)
    round_one = np.c_[np.cos(turns), np.sin(turns), 0 * turns]
    head = "ply\nformat ascii 1.0\nelement vertex 150000\n" + "".join(
        f"property float {axis}\n" for axis in "xyz"
    )
    lists = "1\nproperty list int int vertex_indices\nend_header\n"
    files = {
        "strip.ply": f"{head}element tristrips {lists}{rows(corners)}150000 {strip}\n",
        "polygon.ply": f"{head}element face {lists}{rows(round_one)}150000 {strip}\n",
    }
    found = compare(tmp_path, {name: text.encode() for name, text in files.items()})
    assert found == dict.fromkeys(files, "same")


def test_a_property_of_no_element_is_named(tmp_path):
    (tmp_path / "early.ply").write_text("ply\nformat ascii 1.0\nproperty float x\nend_header\n")
    (found,) = run(tmp_path, READ, [str(tmp_path / "early.ply")])
    assert "property float x" in found["error"]


DRAW = """
import { drawSurface } from "./prepare.js";
function run({ points, faces, count }) {
  let state = 1; // a generator of another kind than the page's, of full period
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  return [...drawSurface({ points: Float64Array.from(points), faces }, count, random)];
}
"""


def test_surfaces_are_sampled_by_area(tmp_path):
    areas, count = np.array([1.0, 0.25, 3.0, 0.0, 2.0]), 20_000
    starts = 10.0 * np.arange(5)
    corners = [
        [[s, 0, 0], [s + 2 * a, 0, 0], [s, 1, 0]] for s, a in zip(starts, areas, strict=True)
    ]
    given = {"points": np.ravel(corners).tolist(), "faces": list(range(15)), "count": count}
    points = np.array(run(tmp_path, DRAW, given)).reshape(-1, 3)
    face = (points[:, 0] // 10).astype(int)
    expected = count * areas / areas.sum()
    found = np.bincount(face, minlength=5)
    assert found[3] == 0
    assert np.all(np.abs(found - expected) <= 5 * np.sqrt(expected))
    for place in (0, 1, 2, 4):  # the square root of the share above a line is uniform
        inside = points[face == place]
        along = np.sort(1 - (1 - inside[:, 1]) ** 2)
        steps = (np.arange(len(along)) + 0.5) / len(along)
        assert np.abs(along - steps).max() < 2 / np.sqrt(len(along))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_clouds_are_prepared_as_by_the_library(axis, tmp_path):
    transform = pp.InputTransform(num_points=32, up_axis=axis)
    script = """
    import { prepare } from "./prepare.js";
    const run = ({ points, rules }) =>
      [...prepare({ points: Float64Array.from(points), faces: null, notes: [] }, rules).input];
    """
    given = {"points": CLOUD.ravel().tolist(), "rules": transform.to_dict()}
    found = np.array(run(tmp_path, script, given)).reshape(-1, 3)
    expected = transform.prepare(pp.data.RawShape(CLOUD, None, "cloud"))[:32]
    np.testing.assert_allclose(found, expected, atol=1e-6)
