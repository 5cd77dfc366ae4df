"""Read one shape file, a mesh or a point cloud, without ever running code from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointpeft.data.damage import describe_damage
from pointpeft.data.meshes import gltf_buffers, parse_mesh, ply_vertices
from pointpeft.data.npz import read_npy, read_npz
from pointpeft.data.parts import EXPECTED_PARTS, as_part_labels
from pointpeft.data.pcd import parse_pcd
from pointpeft.errors import DataError

__all__ = ["SHAPE_SUFFIXES", "RawShape", "companion_files", "read_shape"]

_MESH_SUFFIXES = frozenset({".obj", ".off", ".ply", ".stl", ".glb", ".gltf"})
_TEXT_SUFFIXES = frozenset({".xyz", ".txt", ".csv"})
_COMMENT_MARKS = ("#", "//", ";")
_CLOUD_KEYS = ("points", "xyz", "pos")
_PART_KEYS = ("seg", "part", "label", "segmentation")

SHAPE_SUFFIXES: frozenset[str] = _MESH_SUFFIXES | _TEXT_SUFFIXES | {".npy", ".npz", ".pcd"}
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
    """Read a mesh (obj, off, ply, stl, glb, gltf) or a cloud (xyz, txt, csv, npy, npz, pcd, ply).

    Args:
        path: The file; its suffix decides how it is read.
        segmented: Whether every point must have a part label, which is then read as well: the last
            column of a text (or the one that a header calls part, label, seg or segmentation), the
            array `seg` (or part, label, segmentation) of an npz, such a vertex property of a ply.

    Returns:
        The shape, unchanged except that all parts of a scene are put in one frame.

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
    if path.stat().st_size == 0:
        raise DataError(f"{path}: {describe_damage(path)}")
    try:
        shape = _read_segmented(path, suffix) if segmented else _read_by_suffix(path, suffix)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a damaged file can make a parser fail in any way
        raise DataError(f"{path}: {describe_damage(path, error)}") from error
    if len(shape.points) == 0:
        raise DataError(f"{path}: {describe_damage(path)}")
    return shape


def companion_files(path: Path) -> list[Path]:
    """Files beside `path` that hold part of its geometry: the buffers a `.gltf` file names."""
    if path.suffix.lower() != ".gltf":
        return []
    try:
        return [file for file in gltf_buffers(path) if file.is_file()]
    except (ValueError, AttributeError, TypeError):
        return []


def _read_by_suffix(path: Path, suffix: str) -> RawShape:
    if suffix in _MESH_SUFFIXES:
        points, faces, notes = parse_mesh(path)
        return RawShape(points, faces, str(path), notes)
    if suffix == ".pcd":
        points, notes = parse_pcd(path.read_bytes())
        return RawShape(points, None, str(path), notes)
    if suffix in _TEXT_SUFFIXES:
        return RawShape(_parse_text(_text(path)), None, str(path))
    if suffix == ".npz":
        return RawShape(_cloud_of_archive(path), None, str(path))
    return RawShape(_as_cloud(read_npy(path), "the array"), None, str(path))


def _read_segmented(path: Path, suffix: str) -> RawShape:
    """A shape with a part label for every point or vertex."""
    if suffix in _TEXT_SUFFIXES:
        rows = _parse_text(_text(path), segmented=True)
        shape, seg = RawShape(rows[:, :3], None, str(path)), rows[:, 3]
    elif suffix in (".npz", ".ply"):
        shape = _read_by_suffix(path, suffix)
        arrays = ply_vertices(path) if suffix == ".ply" else read_npz(path, only=_PART_KEYS)
        seg = _named_labels(arrays)
    else:
        raise DataError(f"a {suffix} file without part labels; {EXPECTED_PARTS}")
    return replace(shape, seg=as_part_labels(seg, (len(shape.points),), "part labels"))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


# Arrays ------------------------------------------------------------------------------------------


def _as_cloud(array: np.ndarray, name: str) -> np.ndarray:
    """First three columns of a numeric `(N, 3 or more)` array."""
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] < 3:
        hint = "; it looks transposed" if array.ndim == 2 and array.shape[0] == 3 else ""
        if array.ndim == 3:
            hint = "; a set of shapes is a data source itself, not put in a class folder"
        raise DataError(
            f"{name} has shape {array.shape} and type {array.dtype}, "
            f"a cloud needs numbers of shape (N, 3){hint}"
        )
    columns = array[:, :3]
    return np.ascontiguousarray(columns, np.float32 if array.dtype == np.float16 else np.float64)


def _cloud_of_archive(path: Path) -> np.ndarray:
    """The cloud of an `.npz`: `points`, `xyz`, `pos`, or the only array of that form."""
    named = read_npz(path, only=_CLOUD_KEYS)
    for key in _CLOUD_KEYS:
        if key in named:
            return _as_cloud(named[key], f"array {key!r}")
    arrays = read_npz(path, wanted=())
    fitting = [key for key, a in arrays.items() if a.ndim == 2 and a.shape[1] >= 3]
    if not fitting:
        read_npz(path)  # complains of arrays of Python objects: the cloud may be one
    if len(fitting) != 1:
        raise DataError(
            f"arrays {sorted(arrays)}: expected 'points', 'xyz' or 'pos', "
            "or exactly one array of shape (N, 3)"
        )
    return _as_cloud(arrays[fitting[0]], f"array {fitting[0]!r}")


def _named_labels(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array `(N,)` that holds part labels, by its name."""
    for key in _PART_KEYS:
        if key in arrays:
            return np.squeeze(np.asarray(arrays[key]))
    raise DataError(f"no part labels; {EXPECTED_PARTS}")


# Text --------------------------------------------------------------------------------------------


def _parse_text(text: str, segmented: bool = False) -> np.ndarray:
    """Points of a text cloud: x, y, z are the named columns of a header or else the first three.

    With `segmented`, a fourth column: the one that the header names, or else the last one.
    """
    columns: tuple[int, ...] = (0, 1, 2, -1) if segmented else (0, 1, 2)
    width = 0
    rows: list[tuple[float, ...]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = _split_fields(line)
        if not rows:
            columns = _named_columns(fields, segmented) or columns
        if not fields or fields[0].startswith(_COMMENT_MARKS):
            continue
        point = _row_point(fields, columns)
        if point is None and not rows:
            continue  # a header: names, a count, a title
        if point is None or (rows and len(fields) != width):
            raise DataError(
                f"line {number}: expected {width} columns with numbers for x, y, z "
                f"as in the lines before, got {line.strip()[:60]!r}"
            )
        width = len(fields)
        rows.append(point)
    if not rows:
        raise DataError("no line with three numbers; expected one 'x y z' or 'x,y,z' a line")
    if segmented and width < 4:
        raise DataError("no column beside x, y, z; expected one 'x y z [nx ny nz] part' a line")
    return np.array(rows, dtype=np.float64)


def _split_fields(line: str) -> list[str]:
    if "," in line:
        return [field.strip() for field in line.strip().rstrip(",").split(",")]
    return line.split()


def _named_columns(fields: Sequence[str], segmented: bool) -> tuple[int, ...] | None:
    names = [field.strip("#/;\"' ").lower() for field in fields]
    names = names[1:] if names[:1] == [""] else names  # a comment mark standing alone
    if not all(axis in names for axis in "xyz"):
        return None
    coordinates = tuple(names.index(axis) for axis in "xyz")
    if not segmented:
        return coordinates
    return (*coordinates, next((names.index(key) for key in _PART_KEYS if key in names), -1))


def _row_point(fields: Sequence[str], columns: tuple[int, ...]) -> tuple[float, ...] | None:
    try:
        return tuple(float(fields[column]) for column in columns)
    except (ValueError, IndexError):
        return None
