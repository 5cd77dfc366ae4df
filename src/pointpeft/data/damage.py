"""What can be told of a shape file that its reader could not use: of another kind, or cut short."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from pointpeft.data.meshes import binary_stl_size, gltf_buffers

__all__ = ["describe_damage"]

_GLB_HEADER = 12
_VERTEX = re.compile(r"\s*v(\s+[-+.\deE]*\d\S*){3}")
_CUT = "the file is cut short"


def describe_damage(path: Path, error: Exception | None = None) -> str:
    """A sentence on what is wrong with a file.

    Args:
        path: The file; its suffix says what it should be.
        error: What its reader raised, told where nothing better is known; None: it found no points.
    """
    kind = path.suffix.lower()[1:]
    if path.stat().st_size == 0:
        return "the file is empty"
    try:
        cause = _CAUSES[kind](path) if kind in _CAUSES else None
    except OSError:  # as the reader met it too
        cause = None
    if cause is not None:
        return cause
    if error is None:
        return "holds no points"
    reason = f"{type(error).__name__}: {error}".strip(": \n")
    return f"cannot be read as {kind}, it may be damaged or cut short ({reason})"


def _off(path: Path) -> str | None:
    return None if b"OFF" in path.read_bytes() else _not_a(path)


def _obj(path: Path) -> str | None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    vertices = {i: line for i, line in enumerate(lines, start=1) if line.split()[:1] == ["v"]}
    if not vertices:
        return f"{_not_a(path)}: no line 'v x y z'"
    bad = next((i for i, line in vertices.items() if not _VERTEX.match(line)), None)
    return f"line {bad}: expected 'v x y z', got {vertices[bad][:60]!r}" if bad else None


def _stl(path: Path) -> str | None:
    content = path.read_bytes()
    text = content.strip().lower()
    if text.startswith(b"solid") and (b"facet" in text or b"endsolid" in text):
        return None if b"endsolid" in text else f"{_CUT}: no 'endsolid' at its end"
    expected = binary_stl_size(content)
    if expected is None:
        return _not_a(path)
    if len(content) == expected:
        return None
    return (
        f"{_not_a(path)}, or {'cut short' if len(content) < expected else 'too long'}: a binary "
        f"one with the triangles that its header says has {expected:,} bytes, this one "
        f"{len(content):,}"
    )


def _ply(path: Path) -> str | None:
    content = path.read_bytes()
    if not content.startswith(b"ply"):
        return _not_a(path)
    return None if b"end_header" in content else f"{_CUT}: its header has no end"


def _glb(path: Path) -> str | None:
    content = path.read_bytes()
    head = content[:_GLB_HEADER]
    if head[:4] != b"glTF":
        return _not_a(path)
    promised = int.from_bytes(head[8:], "little") if len(head) == _GLB_HEADER else _GLB_HEADER
    if len(content) >= promised:
        return None
    return f"{_CUT}: it has {len(content):,} bytes, its header says {promised:,}"


def _gltf(path: Path) -> str | None:
    try:
        missing = [file for file in gltf_buffers(path) if not file.is_file()]
    except (ValueError, AttributeError, TypeError):
        return f"{_not_a(path)}, or cut short: its JSON cannot be read"
    return f"its buffer {missing[0].name} is not there; put it beside the file" if missing else None


def _npy(path: Path) -> str | None:
    return None if path.read_bytes().startswith(b"\x93NUMPY") else _not_a(path)


def _npz(path: Path) -> str | None:
    if zipfile.is_zipfile(path):
        return None
    begins = path.read_bytes().startswith(b"PK")
    return f"{_CUT}: its list of arrays is missing" if begins else _not_a(path)


def _not_a(path: Path) -> str:
    kind = path.suffix[1:].upper()
    return f"not {'an' if kind[0] in 'NOS' else 'a'} {kind} file"


_CAUSES: dict[str, Callable[[Path], str | None]] = {
    "glb": _glb,
    "gltf": _gltf,
    "npy": _npy,
    "npz": _npz,
    "obj": _obj,
    "off": _off,
    "ply": _ply,
    "stl": _stl,
}
