"""Reader of CAD solids in STEP and IGES files, by cascadio, which makes triangles of them."""

from pathlib import Path
from typing import Literal

from pointpeft.data.gltf import parse_scene
from pointpeft.data.polygons import Geometry
from pointpeft.errors import DataError

__all__ = ["CAD_SUFFIXES", "parse_cad"]

CAD_SUFFIXES = frozenset({".step", ".stp", ".iges", ".igs"})
_TOLERANCE = 0.01
"""How far triangles may lie from a curved surface, in parts of the length of an edge."""


def parse_cad(path: Path) -> Geometry:
    """Triangles of a solid, in metres.

    Args:
        path: The file.

    Raises:
        DataError: cascadio is not installed, or it cannot read the file.
    """
    try:
        import cascadio
    except ImportError:
        raise DataError(
            "STEP and IGES files need cascadio; install it with 'pip install pointpeft[cad]'"
        ) from None
    kind: Literal["step", "iges"] = "step" if path.suffix.lower().startswith(".st") else "iges"
    content = path.read_bytes()
    if kind == "step" and b"ISO-10303-21" not in content[:1024]:
        raise DataError("not a STEP file: it does not begin with ISO-10303-21")
    scene = cascadio.load(
        content, kind, tol_linear=_TOLERANCE, tol_relative=True, use_parallel=False
    )
    if not scene:
        raise DataError(f"cannot be read as {kind}, it may be damaged or cut short")
    return parse_scene(scene, path.with_suffix(".glb"))
