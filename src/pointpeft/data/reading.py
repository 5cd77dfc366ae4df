"""Read one shape file, a mesh or a point cloud, without ever running code from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pointpeft.data.column_names import label_column, says_label
from pointpeft.data.gltf import buffer_files, parse_gltf, parse_scene
from pointpeft.data.meshes import parse_off, parse_stl
from pointpeft.data.npz import as_cloud, read_npy, read_npz
from pointpeft.data.obj import parse_obj
from pointpeft.data.parts import EXPECTED_PARTS, as_part_labels
from pointpeft.data.pcd import parse_pcd
from pointpeft.data.ply import parse_ply
from pointpeft.data.tables import parse_table
from pointpeft.data.text import refuse_stand_in
from pointpeft.data.triangles import Geometry, triangulate, usable_faces
from pointpeft.errors import DataError

__all__ = [
    "CAD_SUFFIXES",
    "SHAPE_SUFFIXES",
    "RawShape",
    "clean_shape",
    "companion_files",
    "parse_cad",
    "parse_las",
    "read_shape",
]

CAD_SUFFIXES = frozenset({".step", ".stp", ".iges", ".igs"})
_TOLERANCE = 0.01
"""How far triangles may lie from a curved surface, in parts of the length of an edge."""


def parse_cad(path: Path) -> Geometry:
    """Triangles of a solid, in metres.

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


_MOST_POINTS = 100_000_000
"""Points that are read of one scan; 2.4 GB of coordinates."""


def parse_las(path: Path) -> tuple[Geometry, np.ndarray]:
    """Points of a scan in the unit of its projection, and their classification.

    Returns:
        The cloud, and a class `(N,)` int64 for every point.

    Raises:
        DataError: laspy is not installed, or the file is damaged or too large.
    """
    try:
        import laspy
    except ImportError:
        raise DataError(
            "LAS and LAZ files need laspy; install it with 'pip install pointpeft[las]'"
        ) from None
    with laspy.open(path) as file:
        promised = file.header.point_count
        if promised > _MOST_POINTS:
            raise DataError(f"{promised:,} points, more than {_MOST_POINTS:,}")
        scan = file.read()
    points = np.asarray(scan.xyz, dtype=np.float64)
    if len(points) < promised:
        raise DataError(f"cut short: its header says {promised:,} points, it has {len(points):,}")
    return (points, None, ()), np.asarray(scan.classification, dtype=np.int64)


_OFF = re.compile(rb"(?:\s*#[^\r\n]*)*\s*(?:ST)?C?N?4?n?(?:OFF|off)(?:[\d#]|\s+(?:\d|#|BINARY))")
"""How an OFF file begins: the word, and then numbers; titles may begin with these letters too."""
_BYTES_PARSERS = {".obj": parse_obj, ".off": parse_off, ".stl": parse_stl, ".pcd": parse_pcd}
_PATH_PARSERS = {".glb": parse_gltf, ".gltf": parse_gltf} | dict.fromkeys(CAD_SUFFIXES, parse_cad)
_TABLES = frozenset({".xyz", ".txt", ".csv", ".pts"})
_LABELLED = _TABLES | {".npz", ".ply", ".las", ".laz"}
_CLOUD_KEYS, _FACE_KEYS = ("points", "xyz", "pos", "vertices"), ("faces", "triangles")
_MOST_UNPACKED = 1 << 30
"""Bytes that the compressed arrays of one shape may unpack to: 44 million points."""
_NO_CLOUD = re.compile(r"normal|colou?r|rgb|face|triangle|feature|label|pose|embed", re.IGNORECASE)
"""Arrays of an archive that are of a cloud, but not its points."""
_HEAD = 1024
_MOST_MISSING = 0.5
"""A shape of which a larger part is NaN or infinite is damaged."""

SHAPE_SUFFIXES: frozenset[str] = (
    frozenset(_BYTES_PARSERS) | frozenset(_PATH_PARSERS) | _LABELLED | {".npy"}
)
"""File name endings, lower case with the dot, that `read_shape` understands."""


@dataclass(frozen=True)
class RawShape:
    """A shape as its file holds it: any scale, any position, any number of points.

    Attributes:
        points: Vertices of a mesh or points of a cloud, `(N, 3)` floats.
        faces: Vertex numbers of triangles, `(F, 3)` integers; None for a cloud.
        source: Where the shape came from, for messages.
        notes: What the reader had to do that the user should know.
        seg: Part labels of the vertices or points, `(N,)` integers, if they were asked for.
    """

    points: np.ndarray
    faces: np.ndarray | None
    source: str
    notes: tuple[str, ...] = ()
    seg: np.ndarray | None = None


def read_shape(path: str | Path, segmented: bool = False) -> RawShape:
    """Read a mesh (obj, off, ply, stl, glb, gltf, step, iges) or a cloud.

    Clouds are xyz, txt, csv, pts, npy, npz, pcd, ply, las and laz files. Points that are NaN or
    infinite are left out with a note, and so are the faces at such a vertex, unless they are most
    of the shape; so are vertices of a mesh that no face uses.

    Args:
        path: The file; its suffix decides how it is read.
        segmented: Whether every point must have a part label, which is then read as well: the
            column of a text, the vertex property of a ply or the array of an npz that is called
            label, class, part, seg or the like, the last of 4, 7 or 10 columns without names, or
            the classification of a las file.

    Returns:
        The shape, with all parts of a scene in one frame.

    Raises:
        DataError: The file is missing, damaged, of an unknown kind or holds no points, or no
            part labels where they are asked for.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if suffix not in SHAPE_SUFFIXES:
        known = " ".join(sorted(SHAPE_SUFFIXES))
        raise DataError(f"{path}: unknown suffix {suffix!r}; shapes are read from {known}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if not head:
            raise DataError("the file is empty")
        refuse_stand_in(head)
        with np.errstate(all="ignore"):  # numbers of a damaged file may overflow
            (points, faces, notes), seg = _parse(path, suffix, head, segmented)
        if len(points) == 0:
            raise DataError("holds no points")
        if segmented:
            seg = as_part_labels(np.asarray(seg), (len(points),), "part labels")
        return clean_shape(RawShape(points, faces, str(path), notes, seg if segmented else None))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into the memory of this machine") from error
    except Exception as error:  # a damaged file can make a parser fail in any way
        reason = f"{type(error).__name__}: {error}".strip(": \n")
        raise DataError(
            f"{path}: cannot be read as {suffix[1:]}, it may be damaged or cut short ({reason})"
        ) from error


def companion_files(path: Path) -> list[Path]:
    """Files beside `path` that hold part of its geometry: the buffers that a glTF file names."""
    if path.suffix.lower() not in (".gltf", ".glb"):
        return []
    try:
        return [file for file in buffer_files(path) if file.is_file()]
    except (ValueError, AttributeError, TypeError, OSError):
        return []


def clean_shape(shape: RawShape) -> RawShape:
    """A shape without what is no part of it: points that are not finite, vertices without a face.

    Points are left as they are where most of them are NaN or infinite, which is damage, and
    vertices without a face where the shape has part labels.
    """
    finite = np.isfinite(shape.points).all(axis=1)
    used, faces = np.ones(len(finite), dtype=bool), shape.faces
    if faces is not None:
        with np.errstate(all="ignore"):
            usable, _ = usable_faces(shape.points, faces[finite[faces].all(axis=1)])
        if len(usable):  # otherwise all vertices serve as a cloud
            used = np.bincount(faces.ravel(), minlength=len(finite)) > 0
    bad = ~finite & used
    if bad.sum() > _MOST_MISSING * used.sum():
        return shape
    notes = []
    if bad.any():
        notes.append(f"{bad.sum()} of {used.sum()} points are NaN or infinite and left out")
    if faces is not None and bad.any():
        faces = faces[finite[faces].all(axis=1)]
        used = np.bincount(faces.ravel(), minlength=len(finite)) > 0
    kept = finite if shape.seg is not None else finite & used
    if spare := int((finite & ~kept).sum()):
        notes.append(f"{spare} of {len(kept)} vertices belong to no face and are left out")
    if kept.all():
        return shape
    if faces is not None:
        faces = (np.cumsum(kept) - 1)[faces]
    seg = None if shape.seg is None else shape.seg[kept]
    return replace(
        shape, points=shape.points[kept], faces=faces, seg=seg, notes=(*shape.notes, *notes)
    )


def _parse(
    path: Path, suffix: str, head: bytes, segmented: bool
) -> tuple[Geometry, np.ndarray | None]:
    """Geometry of a file, and part labels where they are asked for."""
    if segmented and suffix not in _LABELLED:
        raise DataError(f"a {suffix} file without part labels; {EXPECTED_PARTS}")
    if suffix in _BYTES_PARSERS:
        return _BYTES_PARSERS[suffix](path.read_bytes()), None
    if suffix in _PATH_PARSERS:
        return _PATH_PARSERS[suffix](path), None
    if suffix in _TABLES:
        return _parse_text(path.read_bytes(), head, segmented)
    if suffix == ".ply":
        return _labelled(*parse_ply(path.read_bytes()), segmented)
    if suffix in (".las", ".laz"):
        return parse_las(path)
    if suffix == ".npy":
        return (as_cloud(read_npy(path), "the array"), None, ()), None
    arrays = read_npz(path, _MOST_UNPACKED)
    return _labelled(_parse_archive(arrays), arrays, segmented)


def _parse_text(content: bytes, head: bytes, segmented: bool) -> tuple[Geometry, np.ndarray | None]:
    """A table, or a PLY, PCD or OFF file under the name of one."""
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if first.startswith((b"ply\n", b"ply\r")):
        (points, faces, notes), seg = _labelled(*parse_ply(content), segmented)
        return (points, faces, (*notes, "a PLY file by its content, read as one")), seg
    if first.startswith((b"# .PCD", b"VERSION")) and b"FIELDS" in head and not segmented:
        points, faces, notes = parse_pcd(content)
        return (points, faces, (*notes, "a PCD file by its content, read as one")), None
    if _OFF.match(first) and not segmented:
        try:
            points, faces, notes = parse_off(content)
        except DataError as error:
            raise DataError(f"an OFF file by its first word: {error}") from error
        return (points, faces, (*notes, "an OFF file by its content, read as one")), None
    return parse_table(content, segmented)


def _parse_archive(arrays: Mapping[str, np.ndarray]) -> Geometry:
    """The cloud of an `.npz`, or its mesh where there are triangles beside the vertices."""
    points = _cloud_of_archive(arrays)
    faces = next((arrays[key] for key in _FACE_KEYS if key in arrays), None)
    if faces is None:
        return points, None, ()
    if faces.dtype.kind not in "iu" or faces.ndim != 2 or faces.shape[1] != 3:
        raise DataError(f"faces {faces.shape} of {faces.dtype}: expected triangles (F, 3)")
    sizes = np.full(len(faces), 3)
    return points, triangulate(points, faces.ravel(), sizes) if len(faces) else None, ()


def _cloud_of_archive(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The cloud of an `.npz`: `points`, `xyz`, `pos`, or the only array of that form."""
    for key in _CLOUD_KEYS:
        if key in arrays:
            return as_cloud(arrays[key], f"array {key!r}")
    fitting, reasons = {}, []
    for key in arrays:
        try:
            array = arrays[key]
        except DataError as error:  # not the cloud, unless there is no other one
            reasons.append(f"; {error}")
            continue
        if array.ndim == 2 and array.shape[1] >= 3 and not _NO_CLOUD.search(key):
            fitting[key] = array
    if len(fitting) != 1:
        raise DataError(
            f"arrays {sorted(arrays)}: expected 'points', 'xyz', 'pos' or 'vertices', "
            f"or exactly one array of shape (N, 3){''.join(reasons)}"
        )
    ((key, array),) = fitting.items()
    return as_cloud(array, f"array {key!r}")


def _labelled(
    geometry: Geometry, arrays: Mapping[str, np.ndarray], segmented: bool
) -> tuple[Geometry, np.ndarray | None]:
    """A geometry with the array `(N,)` that holds part labels, by its name, if they are asked for.

    A note says which one that is where its name does not.
    """
    if not segmented:
        return geometry, None
    points, faces, notes = geometry
    names = list(arrays)
    column = label_column(names)
    if column is None:
        raise DataError(f"no part labels; {EXPECTED_PARTS}")
    if not says_label(names[column]):
        notes = (*notes, f"part labels are {names[column]!r}")
    return (points, faces, notes), np.squeeze(np.asarray(arrays[names[column]]))
