"""Geometry of mesh files by trimesh, in one frame, without their materials."""

import io
import json
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.errors import DataError

__all__ = ["binary_stl_size", "gltf_buffers", "parse_mesh", "ply_vertices"]

Geometry = tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]
"""Points `(N, 3)`, faces `(F, 3)` or None, and notes."""
_HEAD = 64 << 10
"""Bytes at the beginning of a file that hold its header."""
_STL_HEADER, _STL_TRIANGLE = 84, 50
"""Bytes of a binary `.stl` before its triangles, and of each."""
_NO_END = "no 'endsolid' at its end: read as far as it goes"
_PLY_VERTICES = re.compile(rb"^element\s+vertex\s+(\d+)", re.MULTILINE)


def parse_mesh(path: Path) -> Geometry:
    """Geometry of a mesh file in one frame; materials and textures are not looked at.

    Raises:
        DataError: A `.ply` holds fewer vertices than its header says.
        Exception: Of any kind, when the file is damaged.
    """
    with _quiet_trimesh():
        import trimesh

        kind = path.suffix.lower()[1:]
        text = _utf8(path) if _is_text(path) else b""
        ends_early = kind == "stl" and text.rstrip().lower().endswith(b"endfacet")
        if ends_early:  # trimesh reads nothing that has no end
            text += b"\nendsolid\n"
        file = io.BytesIO(text) if text else path
        loaded = trimesh.load(file, file_type=kind, process=False, skip_materials=True)
        points, faces, notes = _joined(_placed_parts(loaded))
    if kind == "ply":
        _check_count(path, len(points))
    return points, faces, (*notes, _NO_END) if ends_early else notes


def ply_vertices(path: Path) -> dict[str, np.ndarray]:
    """Whatever a ply file says of its vertices, by the name of the property."""
    with _quiet_trimesh(), path.open("rb") as file:
        from trimesh.exchange.ply import load_ply

        raw = load_ply(file, skip_materials=True)["metadata"]["_ply_raw"]["vertex"]["data"]
    names = raw.keys() if isinstance(raw, dict) else raw.dtype.names  # a dict from a text file
    return {name: raw[name] for name in names}


def gltf_buffers(path: Path) -> list[Path]:
    """The files beside a `.gltf` that it names as holding its geometry; they need not be there.

    Raises:
        ValueError, AttributeError, TypeError: It is not in the form of one.
    """
    buffers = json.loads(path.read_bytes()).get("buffers", [])
    names = [str(buffer.get("uri", "data:")) for buffer in buffers]
    return [path.parent / name for name in names if not name.startswith("data:")]


def binary_stl_size(head: bytes) -> int | None:
    """Bytes of a whole binary `.stl` that begins with `head`; None: that is no header of one."""
    if len(head) < _STL_HEADER:
        return None
    (triangles,) = struct.unpack_from("<I", head, _STL_HEADER - 4)
    return _STL_HEADER + triangles * _STL_TRIANGLE


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _is_text(path: Path) -> bool:
    kind = path.suffix.lower()
    if kind != ".stl":
        return kind in (".obj", ".off")
    head = _head(path)  # a binary one may begin with "solid" too, then its size tells
    return head.lstrip()[:5].lower() == b"solid" and binary_stl_size(head) != path.stat().st_size


def _utf8(path: Path) -> bytes:
    """A text file in the only encoding that trimesh decodes by itself; only names need it."""
    return path.read_text(encoding="utf-8", errors="replace").encode()


def _check_count(path: Path, number: int) -> None:
    """Refuse a ply cloud in text that ends early, which trimesh reads as far as it goes."""
    promised = _PLY_VERTICES.search(_head(path))
    if promised and number < int(promised[1]):
        raise DataError(
            f"the file is cut short: its header says {int(promised[1]):,} vertices, it has "
            f"{number:,}"
        )


@contextmanager
def _quiet_trimesh() -> Iterator[None]:
    """Silence warnings and log lines of trimesh: what matters is raised or noted instead."""
    logger = logging.getLogger("trimesh")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


def _placed_parts(loaded: Any) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Vertices and faces of each part of a trimesh geometry, with scene transforms applied."""
    if not hasattr(loaded, "graph"):
        return _part(loaded, np.eye(4))
    parts = []
    for node in loaded.graph.nodes_geometry:
        placement, name = loaded.graph[node]
        parts += _part(loaded.geometry[name], np.asarray(placement, dtype=np.float64))
    return parts


def _part(geometry: Any, placement: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    vertices = np.asarray(getattr(geometry, "vertices", ()), dtype=np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) == 0:
        return []
    faces = getattr(geometry, "faces", None)
    points = vertices @ placement[:3, :3].T + placement[:3, 3]
    return [(points, None if faces is None else np.asarray(faces, dtype=np.int64))]


def _joined(parts: list[tuple[np.ndarray, np.ndarray | None]]) -> Geometry:
    """All meshes as one or, where there is none, all clouds as one."""
    meshes = [(points, faces) for points, faces in parts if faces is not None and len(faces)]
    if not meshes:
        clouds = [points for points, _ in parts]
        return np.concatenate(clouds) if clouds else np.empty((0, 3)), None, ()
    starts = np.cumsum([0] + [len(points) for points, _ in meshes[:-1]])
    points = np.concatenate([points for points, _ in meshes])
    faces = np.concatenate(
        [faces + start for (_, faces), start in zip(meshes, starts, strict=True)]
    )
    others = len(parts) - len(meshes)
    notes = (f"{others} parts without faces left out beside {len(meshes)} meshes",)
    return points, faces, notes if others else ()
