"""glTF scenes: geometry as the standard means it, or a refusal that names what is missing."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointpeft.data import RawShape, read_shape
from pointpeft.data.reading import companion_files
from pointpeft.errors import DataError
from tests.data.solids import CORNERS, QUADS, TRIANGLES, area

TYPES = {"f4": 5126, "i2": 5122, "u2": 5123, "i1": 5120, "u1": 5121, "u4": 5125}


class Document:
    """A glTF document that is put together array by array."""

    def __init__(self) -> None:
        self.buffer = b""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
        }
        self.position = self.add(CORNERS)
        self.index = self.add(np.array(TRIANGLES).reshape(-1, 1), "u2")
        self.json["meshes"] = [{"primitives": [self.primitive()]}]
        self.json |= {"nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}], "scene": 0}

    def primitive(self, **more: Any) -> dict[str, Any]:
        return {"attributes": {"POSITION": self.position}, "indices": self.index, **more}

    def view(self, values: Any, kind: str) -> int:
        data = np.ascontiguousarray(values, f"<{kind}").tobytes()
        self.buffer += bytes(-len(self.buffer) % 4)
        self.json["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.buffer), "byteLength": len(data)}
        )
        self.buffer += data
        return len(self.json["bufferViews"]) - 1

    def add(self, values: Any, kind: str = "f4", **more: Any) -> int:
        values = np.asarray(values)
        width = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[values.shape[1]]
        accessor = {"count": len(values), "type": width, "componentType": TYPES[kind]}
        self.json["accessors"].append({"bufferView": self.view(values, kind), **accessor, **more})
        return len(self.json["accessors"]) - 1

    def write(self, path: Path, uri: str | None = None, mark: str = "") -> Path:
        buffer: dict[str, Any] = {"byteLength": len(self.buffer)}
        buffer |= {} if uri is None else {"uri": uri}
        document = {**self.json, "buffers": [buffer, *self.json.get("buffers", [])]}
        text = (mark + json.dumps(document)).encode()
        if path.suffix == ".gltf":
            path.write_bytes(text)
            return path
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        if uri is None:
            data = self.buffer + bytes(-len(self.buffer) % 4)
            chunks += struct.pack("<I4s", len(data), b"BIN\0") + data
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path

    def read(self, folder: Path) -> RawShape:
        return read_shape(self.write(folder / "a.glb"))


@pytest.fixture
def cube() -> Document:
    return Document()


def extent(shape: RawShape) -> list[float]:
    return np.ptp(shape.points, axis=0).round(5).tolist()


def test_a_cube_is_a_cube(tmp_path: Path, cube: Document) -> None:
    shape = cube.read(tmp_path)
    assert area(shape) == pytest.approx(6)
    assert shape.notes == ()
    cube.json["meshes"][0]["primitives"][0].pop("indices")
    corners = np.array(CORNERS)[np.array(TRIANGLES).ravel()]
    cube.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = cube.add(corners)
    assert area(cube.read(tmp_path)) == pytest.approx(6)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_buffers_lie_inside_or_beside_the_file(tmp_path: Path, cube: Document, mark: str) -> None:
    inside = "data:application/octet-stream;base64," + base64.b64encode(cube.buffer).decode()
    assert area(read_shape(cube.write(tmp_path / "a.gltf", inside, mark))) == pytest.approx(6)
    for suffix in ("gltf", "glb"):
        for uri, name in (("my%20part.bin", "my part.bin"), ("10%.bin", "10%.bin")):
            (tmp_path / name).write_bytes(cube.buffer)
            path = cube.write(tmp_path / f"b.{suffix}", uri, mark)
            assert area(read_shape(path)) == pytest.approx(6)
            assert companion_files(path) == [tmp_path / name]
        with pytest.raises(DataError, match=r"gone\.bin"):
            read_shape(cube.write(tmp_path / f"c.{suffix}", "gone.bin"))
        with pytest.raises(DataError, match="example"):
            read_shape(cube.write(tmp_path / f"c.{suffix}", "https://example.org/a.bin"))


def test_a_buffer_whose_name_is_no_text_is_refused(tmp_path: Path, cube: Document) -> None:
    path = cube.write(tmp_path / "a.gltf", 5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="uri"):
        read_shape(path)


@pytest.mark.parametrize(
    "uri", ["../a.bin", "b/../../a.bin", "%2e%2e/a.bin", "..\\a.bin", "//host/a.bin", "C:/a.bin"]
)
def test_buffers_elsewhere_are_not_opened(tmp_path: Path, cube: Document, uri: str) -> None:
    (tmp_path / "a.bin").write_bytes(cube.buffer)
    (tmp_path / "shapes").mkdir()
    for suffix in ("gltf", "glb"):
        for name in (uri, str(tmp_path / "a.bin")):
            path = cube.write(tmp_path / f"shapes/a.{suffix}", name)
            with pytest.raises(DataError, match=r"a\.(gltf|glb)"):
                read_shape(path)
            assert companion_files(path) == []


def test_scenes_and_nodes_say_what_is_shown(tmp_path: Path, cube: Document) -> None:
    half = np.sqrt(0.5)
    move = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 10, 0, 0, 1]
    cube.json["nodes"] = [
        {"children": [1, 3], "matrix": move},
        {"mesh": 0, "scale": [2, 1, 1], "rotation": [0, 0, half, half]},
        {"mesh": 0, "translation": [50, 0, 0]},
        {"mesh": 0, "translation": [0, 0, 4]},
    ]
    shape = cube.read(tmp_path)
    assert extent(shape) == [2, 2, 5]
    assert shape.points[:, 0].min() == pytest.approx(9)
    cube.json.pop("scene")
    assert extent(cube.read(tmp_path)) == [2, 2, 5]
    cube.json.pop("scenes")
    assert extent(cube.read(tmp_path)) == [52 - 10, 2, 5]
    cube.json.pop("nodes")
    assert extent(cube.read(tmp_path)) == [1, 1, 1]


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_fans_and_strips_are_triangles(tmp_path: Path, cube: Document, kind: str) -> None:
    fans = [cube.add(np.array(quad)[:, None], kind) for quad in QUADS[:3]]
    strips = [cube.add(np.array(quad)[[0, 1, 3, 2], None], kind) for quad in QUADS[3:]]
    cube.json["meshes"][0]["primitives"] = [
        *(cube.primitive(indices=fan, mode=6) for fan in fans),
        *(cube.primitive(indices=strip, mode=5) for strip in strips),
    ]
    assert area(cube.read(tmp_path)) == pytest.approx(6)


@pytest.mark.parametrize(
    ("kind", "most", "normalized"),
    [
        ("i1", 127, True),
        ("u1", 255, True),
        ("i2", 32767, True),
        ("u2", 65535, True),
        ("u2", 9, False),
    ],
)
def test_quantised_positions(
    tmp_path: Path, cube: Document, kind: str, most: int, normalized: bool
) -> None:
    position = cube.add(np.array(CORNERS) * most, kind, normalized=normalized)
    cube.json["meshes"][0]["primitives"] = [cube.primitive(attributes={"POSITION": position})]
    cube.json["nodes"][0]["scale"] = [1 if normalized else 1 / most] * 3
    cube.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    assert extent(cube.read(tmp_path)) == [1, 1, 1]


@pytest.mark.parametrize("has_base", [True, False])
def test_sparse_positions(tmp_path: Path, cube: Document, has_base: bool) -> None:
    indices = {"bufferView": cube.view([3, 7], "u2"), "componentType": 5123}
    values = {"bufferView": cube.view([[0, 5, 1], [1, 5, 1]], "f4")}
    sparse = {"count": 2, "indices": indices, "values": values}
    accessor = {"componentType": 5126, "count": 8, "type": "VEC3", "sparse": sparse}
    accessor |= {"bufferView": 0} if has_base else {}
    cube.json["accessors"].append(accessor)
    cube.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = 2
    shape = cube.read(tmp_path)
    assert extent(shape) == [1, 5, 1]
    assert ([0, 1, 0] in shape.points.tolist()) == has_base


@pytest.mark.parametrize(
    ("weights", "own", "height"),
    [([1.0], None, 3), ([0.5], None, 2), ([0.0], [1.0], 3), (None, None, 1)],
)
def test_morph_targets_have_their_default_weights(
    tmp_path: Path, cube: Document, weights: Any, own: Any, height: float
) -> None:
    target = cube.add(np.array(CORNERS) * [0, 0, 2])
    cube.json["meshes"][0]["primitives"] = [cube.primitive(targets=[{"POSITION": target}])]
    if weights:
        cube.json["meshes"][0]["weights"] = weights
    if own:
        cube.json["nodes"][0]["weights"] = own
    assert extent(cube.read(tmp_path)) == [1, 1, height]


def test_instances_are_all_there(tmp_path: Path, cube: Document) -> None:
    attributes = {
        "TRANSLATION": cube.add([[0.0, 0, 0], [5, 0, 0], [10, 0, 0]]),
        "SCALE": cube.add([[1.0, 1, 1], [1, 1, 1], [2, 1, 1]]),
        "ROTATION": cube.add([[0, 0, 0, 127]] * 3, "i1", normalized=True),
        "_ID": cube.index,
    }
    cube.json["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    shape = cube.read(tmp_path)
    assert extent(shape) == [12, 1, 1]
    assert area(shape) == pytest.approx(6 + 6 + 10)


def test_skins_have_the_pose_of_the_file(tmp_path: Path, cube: Document) -> None:
    joints = [[0, 0, 0, 0] if x == 0 else [1, 0, 0, 0] for x, _, _ in CORNERS]
    attributes = {
        "POSITION": cube.position,
        "JOINTS_0": cube.add(joints, "u1"),
        "WEIGHTS_0": cube.add([[1.0, 0, 0, 0]] * 8),
    }
    back = [np.eye(4), np.eye(4)]
    back[1][3, :3] = [-1, 0, 0]  # the second joint was bound at x = 1; stored by columns
    cube.json["skins"] = [
        {"joints": [1, 2], "inverseBindMatrices": cube.add(np.reshape(back, (2, 16)))}
    ]
    cube.json["meshes"][0]["primitives"] = [cube.primitive(attributes=attributes)]
    cube.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},
        {"children": [2]},
        {"translation": [4, 0, 0]},
    ]
    cube.json["scenes"] = [{"nodes": [0, 1]}]
    shape = cube.read(tmp_path)
    assert extent(shape) == [4, 1, 1]
    assert shape.points[:, 0].min() == 0


def test_parts_that_are_no_surface_are_left_out_with_a_note(tmp_path: Path, cube: Document) -> None:
    far = cube.add(np.array(CORNERS) * 9)
    cube.json["meshes"][0]["primitives"] += [
        {"attributes": {}},
        {"attributes": {"POSITION": far}, "mode": 1},
        {"attributes": {"POSITION": far}, "mode": 0},
    ]
    shape = cube.read(tmp_path)
    assert extent(shape) == [1, 1, 1]
    assert len(shape.notes) == 3
    cube.json["meshes"][0]["primitives"] = cube.json["meshes"][0]["primitives"][-1:]
    shape = cube.read(tmp_path)
    assert shape.faces is None
    assert len(shape.points) == 8


def test_draco_is_decoded_or_named(
    tmp_path: Path, cube: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    draco = pytest.importorskip("DracoPy")
    packed = draco.encode(np.array(CORNERS, np.float32), np.array(TRIANGLES, np.uint32))
    view = cube.view(np.frombuffer(packed, np.uint8), "u1")
    cube.json["accessors"] += [
        {"componentType": 5126, "count": 8, "type": "VEC3"},
        {"componentType": 5123, "count": 36, "type": "SCALAR"},
    ]
    extension = {"KHR_draco_mesh_compression": {"bufferView": view, "attributes": {"POSITION": 0}}}
    attributes = {"POSITION": 2}
    cube.json["meshes"][0]["primitives"] = [
        {"attributes": attributes, "indices": 3, "extensions": extension}
    ]
    cube.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    assert area(cube.read(tmp_path)) == pytest.approx(6, rel=1e-2)
    monkeypatch.setitem(__import__("sys").modules, "DracoPy", None)
    with pytest.raises(DataError, match="Draco"):
        cube.read(tmp_path)
    attributes["POSITION"] = 0  # what is stored without compression as well
    cube.json["meshes"][0]["primitives"][0]["indices"] = 1
    assert area(cube.read(tmp_path)) == pytest.approx(6)


def test_meshopt_is_named_unless_the_data_are_there_as_well(tmp_path: Path, cube: Document) -> None:
    extension = {"EXT_meshopt_compression": {"buffer": 0, "byteLength": 4, "byteStride": 12}}
    cube.json["bufferViews"][0]["extensions"] = extension
    assert area(cube.read(tmp_path)) == pytest.approx(6)
    cube.json["bufferViews"][0]["buffer"] = 1
    cube.json["buffers"] = [{"byteLength": 96, "extensions": {"EXT_meshopt_compression": {}}}]
    with pytest.raises(DataError, match="meshopt"):
        cube.read(tmp_path)
    cube.json["extensionsRequired"] = ["EXT_meshopt_compression"]
    with pytest.raises(DataError, match="meshopt"):
        cube.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"extensionsRequired": ["ACME_magic_points"]}, "ACME_magic_points"),
        ({"asset": {"version": "1.0"}}, "version 1"),
        ({"nodes": [{"mesh": 0, "children": [0]}]}, "node 0"),
        ({"nodes": [{"mesh": 7}]}, "mesh 7"),
        ({"scenes": [{"nodes": [5]}]}, "node 5"),
        ({"nodes": 3}, "nodes"),
        ({"meshes": [{"primitives": []}]}, "no points"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 9}}]}]}, "accessor 9"),
        ({"accessors": [{"count": 8, "type": "VEC3", "componentType": 5126}]}, "accessor 0"),
        (
            {
                "accessors": [
                    {"bufferView": 0, "count": 10**9, "type": "VEC3", "componentType": 5126}
                ]
            },
            "1,000,000,000",
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, cube: Document, change: dict[str, Any], named: str
) -> None:
    cube.json |= change
    with pytest.raises(DataError, match=named):
        cube.read(tmp_path)


def test_required_extensions_of_materials_do_not_matter(tmp_path: Path, cube: Document) -> None:
    cube.json["extensionsRequired"] = ["KHR_texture_basisu", "KHR_materials_unlit", "VRM"]
    assert area(cube.read(tmp_path)) == pytest.approx(6)


def test_cut_and_nested_files_are_refused(tmp_path: Path, cube: Document) -> None:
    content = cube.write(tmp_path / "a.glb").read_bytes()
    (tmp_path / "a.glb").write_bytes(content[:-8])
    with pytest.raises(DataError, match="cut short"):
        read_shape(tmp_path / "a.glb")
    cube.buffer = cube.buffer[:-8]
    with pytest.raises(DataError, match="cut short"):
        cube.read(tmp_path)
    (tmp_path / "a.gltf").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"a\.gltf"):
        read_shape(tmp_path / "a.gltf")
    assert companion_files(tmp_path / "a.gltf") == []
