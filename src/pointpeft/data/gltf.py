"""Reader of glTF 2.0 scenes (`.gltf`, `.glb`): geometry alone, placed as the scene says."""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import numpy as np

from pointpeft.data.gltf_accessors import Accessors, entry_at
from pointpeft.data.triangles import Geometry, check_corners, fan_triangles, strip_triangles
from pointpeft.errors import DataError

__all__ = ["buffer_files", "parse_gltf", "parse_scene"]

_GLB_HEADER, _CHUNK_HEADER = 12, 8
_MAGIC, _JSON, _BIN = b"glTF", b"JSON", b"BIN\0"
_UNDERSTOOD = (
    "KHR_mesh_quantization", "EXT_mesh_gpu_instancing", "KHR_draco_mesh_compression",
    # no matter to geometry:
    "KHR_materials_", "KHR_texture_", "EXT_texture_", "MSFT_texture_", "KHR_lights_",
    "EXT_lights_", "KHR_xmp", "KHR_animation_", "KHR_techniques_", "KHR_binary_glTF",
    "EXT_mesh_features", "EXT_structural_metadata", "EXT_instance_features", "MSFT_lod",
    "CESIUM_", "VRM", "KHR_audio_", "EXT_lights_image_based", "ADOBE_materials_",
)  # fmt: skip
"""Beginnings of the names of required extensions with which a file is read."""
_INSTANCING, _DRACO = "EXT_mesh_gpu_instancing", "KHR_draco_mesh_compression"
_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6
_MOST_POINTS = 100_000_000
"""Vertices that a scene may have when its meshes are placed; a small file can claim any number."""

Part = tuple[np.ndarray, np.ndarray | None]
"""Points `(N, 3)` and triangles `(F, 3)` or None."""


def parse_gltf(path: Path) -> Geometry:
    """Geometry of a glTF file: the default scene, or all of it where it has no scenes.

    Triangles, strips, fans and points are read, with sparse and quantised accessors, instances,
    default morph weights, skins in the pose of the file, and, where DracoPy is installed, Draco
    compression. Buffers that the file names are looked for beside it.

    Raises:
        DataError: It is damaged, of another version, lacks a buffer, or needs an extension that
            is not understood.
    """
    return parse_scene(path.read_bytes(), path)


def parse_scene(content: bytes, path: Path) -> Geometry:
    """As `parse_gltf`, of a file that is in memory already, or never was one."""
    document, binary = _open(content, path)
    _check_document(document)

    def load_buffer(number: int) -> bytes:
        return _buffer(path, document, number, binary)

    return _Scene(document, Accessors(document, load_buffer)).geometry()


def buffer_files(path: Path) -> list[Path]:
    """The files that hold buffers of a glTF file; they need not be there.

    Raises:
        DataError: It is not in the form of one.
    """
    document, _ = _open(path.read_bytes(), path)
    uris = [str(buffer.get("uri") or "data:") for buffer in _listed(document, "buffers")]
    return [_beside(path, uri) for uri in uris if not uri.startswith("data:")]


# The file ----------------------------------------------------------------------------------------


def _open(content: bytes, path: Path) -> tuple[dict[str, Any], bytes | None]:
    """The JSON document of a file, and its own buffer if it has one."""
    binary = None
    if content.startswith(_MAGIC) or path.suffix.lower() == ".glb":
        content, binary = _chunks(content)
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"its JSON cannot be read, it may be damaged or cut short ({error})"
        ) from error
    if not isinstance(document, dict):
        raise DataError("not a glTF file: its JSON is no object")
    return document, binary


def _chunks(content: bytes) -> tuple[bytes, bytes | None]:
    if not content.startswith(_MAGIC) or len(content) < _GLB_HEADER + _CHUNK_HEADER:
        raise DataError("not a GLB file: it does not begin with 'glTF' and a header")
    version, length = (int.from_bytes(content[at : at + 4], "little") for at in (4, 8))
    if version != 2:
        raise DataError(f"glTF version {version}; only version 2 is read")
    if len(content) < length:
        raise DataError(
            f"the file is cut short: it has {len(content):,} bytes, its header says {length:,}"
        )
    found: dict[bytes, bytes] = {}
    at = _GLB_HEADER
    while at + _CHUNK_HEADER <= length:
        size, kind = int.from_bytes(content[at : at + 4], "little"), content[at + 4 : at + 8]
        at += _CHUNK_HEADER
        if at + size > len(content):
            raise DataError(f"the file is cut short: a chunk of {size:,} bytes does not fit in it")
        found.setdefault(kind, content[at : at + size])
        at += size
    if _JSON not in found:
        raise DataError("a GLB file without its JSON chunk")
    return found[_JSON], found.get(_BIN)


def _check_document(document: dict[str, Any]) -> None:
    version = str(_object(document.get("asset", {})).get("version", "2"))
    if not version.startswith("2"):
        raise DataError(f"glTF version {version}; only version 2 is read")
    for name in map(str, document.get("extensionsRequired", ())):
        if not name.startswith(_UNDERSTOOD):
            raise DataError(f"needs the extension {name}, which is not understood; save it without")


def _buffer(path: Path, document: dict[str, Any], number: int, binary: bytes | None) -> bytes:
    """The bytes of a buffer, from the file itself, its text or a file beside it."""
    buffer = entry_at(_listed(document, "buffers"), number, "buffer")
    uri, length = buffer.get("uri"), int(buffer.get("byteLength", 0))
    if uri is None:
        if number != 0 or binary is None:
            raise DataError(f"buffer {number} has no data; the geometry may be compressed")
        content = binary
    elif not isinstance(uri, str):
        raise DataError(f"buffer {number}: uri {str(uri)[:60]} is no name of a file")
    elif uri.startswith("data:"):
        head, _, data = uri.partition(",")
        content = unquote_to_bytes(data)
        if head.endswith(";base64"):
            content = base64.b64decode(content)
    else:
        file = _beside(path, uri)
        if not file.is_file():
            raise DataError(f"its buffer {file.name} is not there; put it beside the file")
        content = file.read_bytes()
    if len(content) < length:
        raise DataError(
            f"buffer {number} is cut short: it has {len(content):,} bytes, the file says {length:,}"
        )
    return content


def _beside(path: Path, uri: str) -> Path:
    """The file that a uri names; it may be percent-encoded, as the standard wants, or not.

    A shape may come from anybody, so it has no say over files elsewhere on this machine.
    """
    for name in (uri, unquote(uri)):
        inside = os.path.normpath(name.replace("\\", "/"))
        if urlsplit(name).scheme or inside.startswith(("/", "..")):
            raise DataError(f"its buffer {uri[:60]} lies elsewhere; put it beside the file")
    plain = path.parent / uri
    return plain if plain.is_file() else path.parent / unquote(uri)


# The scene ---------------------------------------------------------------------------------------


@dataclass
class _Scene:
    """Meshes of a document, placed by its nodes."""

    document: dict[str, Any]
    accessors: Accessors
    notes: list[str] = field(default_factory=list)

    def geometry(self) -> Geometry:
        parts: list[Part] = []
        num_points = 0
        for placements, node in self._placed_nodes():
            for points, faces in self._node_parts(node):
                num_points += len(points) * len(placements)
                if num_points > _MOST_POINTS:
                    raise DataError(f"more than {_MOST_POINTS:,} vertices")
                for placement in placements:
                    parts.append((points @ placement[:3, :3].T + placement[:3, 3], faces))
        return _joined(parts, tuple(dict.fromkeys(self.notes)))

    def _placed_nodes(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Nodes that show a mesh, each with where it is put: `(I, 4, 4)`."""
        nodes = _listed(self.document, "nodes")
        if not nodes:
            for number in range(len(_listed(self.document, "meshes"))):
                yield np.eye(4)[None], {"mesh": number}
            return
        self.world = self._world(nodes)
        for number, placement in self.world.items():
            if "mesh" in nodes[number]:
                skinned = "skin" in nodes[number]  # its joints place it instead
                own = np.eye(4)[None] if skinned else placement @ self._instances(nodes[number])
                yield own, nodes[number]

    def _world(self, nodes: list[dict[str, Any]]) -> dict[int, np.ndarray]:
        """Placement `(4, 4)` in the scene of each of its nodes."""
        if scenes := _listed(self.document, "scenes"):
            roots = entry_at(scenes, int(self.document.get("scene", 0)), "scene").get("nodes", [])
        else:
            children = {int(child) for node in nodes for child in node.get("children", ())}
            roots = sorted(set(range(len(nodes))) - children)
        world: dict[int, np.ndarray] = {}
        waiting = [(int(root), np.eye(4)) for root in reversed(roots)]
        while waiting:
            number, above = waiting.pop()
            if number in world:
                raise DataError(f"node {number} has more than one place in the scene")
            node = entry_at(nodes, number, "node")
            world[number] = above @ _local(node)
            below = [(int(child), world[number]) for child in node.get("children", ())]
            waiting += reversed(below)
        return world

    def _instances(self, node: Mapping[str, Any]) -> np.ndarray:
        """Placements `(I, 4, 4)` of the copies of a node's mesh; without the extension, of one."""
        named = node.get("extensions", {}).get(_INSTANCING, {}).get("attributes", {})
        values = {name: self.accessors.read(named[name]) for name in named if name[0] != "_"}
        if not values:
            return np.eye(4)[None]
        count = len(next(iter(values.values())))
        shift = values.get("TRANSLATION", np.zeros((count, 3)))
        turn = values.get("ROTATION", np.tile([0.0, 0, 0, 1], (count, 1)))
        scale = values.get("SCALE", np.ones((count, 3)))
        return np.stack([_placement(*one) for one in zip(shift, turn, scale, strict=True)])

    def _node_parts(self, node: Mapping[str, Any]) -> Iterator[Part]:
        """Points and triangles of each primitive of a node's mesh, in the frame of the mesh."""
        mesh = entry_at(_listed(self.document, "meshes"), int(node["mesh"]), "mesh")
        weights = node.get("weights") or mesh.get("weights") or ()
        for primitive in mesh.get("primitives", ()):
            attributes, mode = primitive.get("attributes", {}), primitive.get("mode", _TRIANGLES)
            if "POSITION" not in attributes:
                self.notes.append("a part without positions left out")
                continue
            if mode not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
                self.notes.append("lines left out")
                continue
            points, indices = self._vertices(primitive)
            for weight, target in zip(weights, primitive.get("targets", ()), strict=False):
                if weight and "POSITION" in target:
                    points = points + weight * self.accessors.read(target["POSITION"])
            if "skin" in node and "JOINTS_0" in attributes:
                points = self._posed(points, attributes, int(node["skin"]))
            yield points, _triangles(indices, mode)

    def _vertices(self, primitive: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Positions `(N, 3)` and the vertex numbers of a primitive, in their order."""
        draco = primitive.get("extensions", {}).get(_DRACO)
        position = int(primitive["attributes"]["POSITION"])
        if draco is not None and not self.accessors.has_data(position):
            return self.accessors.read_draco(int(draco["bufferView"]))
        points = self.accessors.read(position)
        if "indices" in primitive:
            return points, self.accessors.read(primitive["indices"]).astype(np.int64).ravel()
        return points, np.arange(len(points))

    def _posed(self, points: np.ndarray, attributes: Mapping[str, Any], number: int) -> np.ndarray:
        """Vertices `(N, 3)` moved by the joints of a skin, in the pose of the file."""
        skin = entry_at(_listed(self.document, "skins"), number, "skin")
        joints = np.stack([self.world.get(int(joint), np.eye(4)) for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:  # stored by columns
            matrices = self.accessors.read(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
            joints = joints @ matrices.transpose(0, 2, 1)[: len(joints)]
        places, shares = np.zeros((len(points), 4, 4)), np.zeros((len(points), 1))
        for name in (name for name in attributes if name.startswith("JOINTS_")):
            chosen = self.accessors.read(attributes[name]).astype(np.int64)
            weights = self.accessors.read(attributes[name.replace("JOINTS", "WEIGHTS")])
            places += np.einsum("nj,njab->nab", weights, joints[chosen])
            shares += weights.sum(axis=1, keepdims=True)
        homogeneous = np.column_stack([points, np.ones(len(points))])
        return np.einsum("nab,nb->na", places, homogeneous)[:, :3] / np.where(shares, shares, 1)


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray | None:
    """Triangles `(F, 3)` that vertex numbers mean in a mode of drawing; None for points."""
    if mode == _POINTS:
        return None
    if mode == _STRIP:
        return strip_triangles(indices)
    if mode == _FAN:
        return fan_triangles(indices[None])
    return indices[: len(indices) // 3 * 3].reshape(-1, 3)


def _local(node: Mapping[str, Any]) -> np.ndarray:
    """Placement `(4, 4)` of a node in the one above it."""
    if "matrix" in node:  # stored by columns
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    shift, turn = node.get("translation", (0, 0, 0)), node.get("rotation", (0, 0, 0, 1))
    return _placement(shift, turn, node.get("scale", (1, 1, 1)))


def _placement(shift: Sequence[float], turn: Sequence[float], scale: Sequence[float]) -> np.ndarray:
    """Matrix `(4, 4)` that scales, turns by the quaternion x, y, z, w, and shifts."""
    from scipy.spatial.transform import Rotation

    placement = np.eye(4)
    placement[:3, :3] = Rotation.from_quat(np.asarray(turn, float)).as_matrix() * np.asarray(scale)
    placement[:3, 3] = shift
    return placement


def _joined(parts: list[Part], notes: tuple[str, ...]) -> Geometry:
    """All meshes as one or, where there is none, all clouds as one."""
    meshes = [(points, faces) for points, faces in parts if faces is not None and len(faces)]
    if not meshes:
        return np.concatenate([np.empty((0, 3)), *(points for points, _ in parts)]), None, notes
    start, joined = 0, []
    for points, faces in meshes:
        check_corners(faces, len(points))
        joined.append(faces + start)
        start += len(points)
    if others := len(parts) - len(meshes):
        notes += (f"{others} parts without faces left out beside {len(meshes)} meshes",)
    return np.concatenate([points for points, _ in meshes]), np.concatenate(joined), notes


# JSON --------------------------------------------------------------------------------------------


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"not a glTF 2 file: {str(value)[:40]!r} where an object is due")
    return value


def _listed(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects of the document, empty where it has none."""
    values = document.get(name, [])
    if not isinstance(values, list):
        raise DataError(f"not a glTF 2 file: its {name} are no list")
    return [_object(value) for value in values]
