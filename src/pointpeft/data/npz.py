"""Arrays in an `.npz` file: written row by row, read by mapping the file; which axis is which."""

import math
import os
import struct
import zipfile
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from pointpeft.errors import DataError
from pointpeft.files import replacing

__all__ = ["Rows", "as_cloud", "read_npy", "read_npz", "refuse_transposed", "write_npz"]


def as_cloud(array: np.ndarray, name: str) -> np.ndarray:
    """The first three columns of a numeric array `(N, 3 or more)`, as float32 or float64.

    Of an array of records, `(N,)`, the fields x, y and z.

    Raises:
        DataError: It has another form, or holds its points as columns.
    """
    if array.ndim == 1 and {"x", "y", "z"} <= set(array.dtype.names or ()):
        array = np.stack([array[axis] for axis in "xyz"], axis=1)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] < 3:
        hint = ""
        if array.ndim == 2 and array.shape[0] == 3:
            hint = "; it looks transposed"
        elif array.ndim == 3:
            hint = "; a set of shapes is a data source itself, not put in a class folder"
        raise DataError(
            f"{name} has shape {array.shape} and type {array.dtype}, "
            f"a cloud needs numbers of shape (N, 3){hint}"
        )
    refuse_transposed(array.shape, name)
    columns = array[:, :3]
    return np.ascontiguousarray(columns, np.float32 if array.dtype == np.float16 else np.float64)


def refuse_transposed(shape: tuple[int, ...], name: str) -> None:
    """Refuse an array `(..., C, N)` whose points are columns, as in `(3, N)` and `(S, 3, N)`.

    Raises:
        DataError: It has three rows or more, and still more columns.
    """
    rows, columns = shape[-2:]
    if columns > rows >= 3:
        turned = (*shape[:-2], columns, rows)
        swap = "array.T" if len(shape) == 2 else "array.swapaxes(-1, -2)"
        raise DataError(
            f"{name} has shape {shape}, it looks transposed: {rows} points of {columns} columns; "
            f"save it as {turned}, with {swap}"
        )


_SMALLEST_MAPPED = 1 << 20
"""Arrays of fewer bytes are copied into memory, which also verifies their checksum."""
_MEMORY_SHARE = 0.5
"""Part of the memory that the compressed arrays of a data set may unpack to."""
_COMMON_MEMORY = 16 << 30
"""Bytes of memory to count on where the system does not tell."""
_NAME_LENGTHS = 26
"""Where the header of a member says how long its name and extra field are; both end it."""


@dataclass(frozen=True)
class Rows:
    """An array `(S, ...)` that comes row by row, so that it never lies in memory as a whole.

    Attributes:
        shape: Of the whole array.
        dtype: Of its values; rows of another one are converted.
        rows: S arrays of shape `shape[1:]`.
    """

    shape: tuple[int, ...]
    dtype: type[np.generic]
    rows: Iterable[np.ndarray]


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray | Rows]) -> None:
    """Write an uncompressed `.npz`, which `read_npz` maps into memory.

    The file takes its name only when it is complete.

    Args:
        path: The file.
        arrays: By name, written in this order.

    Raises:
        DataError: `Rows` give another number of rows, or one of another shape, than they promise.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                if isinstance(array, Rows):
                    _write_rows(member, name, array)
                else:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def read_npz(
    path: Path,
    leave: Container[str] = (),
    only: Container[str] | None = None,
    wanted: Container[str] | None = None,
    most_unpacked: int | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, by name.

    Large arrays that are stored without compression are mapped, read-only: they take no time to
    load, and processes that read the same file share them.

    Args:
        path: The file.
        leave: Names that are not read.
        only: Names besides which none is read.
        wanted: Names besides which arrays of Python objects are left out; None: none of them is.
        most_unpacked: Bytes that compressed arrays may unpack to, since a small file can claim any
            number; by default half of this machine's memory.

    Raises:
        DataError: The file is damaged or no `.npz`, an array that is not left out holds Python
            objects, or more is unpacked.
    """
    most = _half_of_memory() if most_unpacked is None else most_unpacked
    try:
        return _read_members(path, leave, only, wanted, most)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make NumPy fail in any way
        raise DataError(_describe(path, error)) from error


def _read_members(
    path: Path,
    leave: Container[str],
    only: Container[str] | None,
    wanted: Container[str] | None,
    most: int,
) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        begins = path.read_bytes()[:2] == b"PK"
        raise DataError(
            "the file is cut short: its list of arrays is missing" if begins else "not an NPZ file"
        )
    with np.load(path, allow_pickle=False) as archive:
        members = {
            name: info
            for info in archive.zip.infolist()
            if (name := info.filename.removesuffix(".npy")) != info.filename
            and name not in leave
            and (only is None or name in only)
        }
        packed = [info for info in members.values() if info.compress_type != zipfile.ZIP_STORED]
        unpacked = sum(info.file_size for info in packed)
        if unpacked > most:
            raise DataError(
                f"its compressed arrays unpack to {unpacked:,} bytes, more than {most:,}; store "
                "them uncompressed with numpy.savez, which needs no memory"
            )
        arrays = {}
        for name, info in members.items():
            with archive.zip.open(info) as member:
                header = _read_header(member)
            if header.dtype.hasobject and wanted is not None and name not in wanted:
                continue
            _check(header, info.filename, info.file_size)
            is_mapped = info not in packed and info.file_size >= _SMALLEST_MAPPED
            arrays[name] = _map(path, info, header) if is_mapped else archive[name]
        return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy`.

    Raises:
        DataError: The file is damaged or no `.npy`, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            if file.read(6) != np.lib.format.MAGIC_PREFIX:
                raise DataError("not an NPY file")
            file.seek(0)
            _check(_read_header(file), "the array", path.stat().st_size)
        return np.load(path, allow_pickle=False)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make NumPy fail in any way
        raise DataError(_describe(path, error)) from error


def _describe(path: Path, error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}".strip(": \n")
    return f"cannot be read as {path.suffix[1:]}, it may be damaged or cut short ({reason})"


def _half_of_memory() -> int:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on every system
        memory = _COMMON_MEMORY
    return int(_MEMORY_SHARE * memory)


def _write_rows(member: Any, name: str, array: Rows) -> None:
    dtype = np.dtype(array.dtype)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(member, header)
    count = 0
    for count, row in enumerate(array.rows, start=1):
        if row.shape != array.shape[1:]:
            raise DataError(f"{name}[{count - 1}]: shape {row.shape}, not {array.shape[1:]}")
        member.write(np.ascontiguousarray(row, dtype).tobytes())
    if count != array.shape[0]:
        raise DataError(f"{name}: {count} rows, not {array.shape[0]}")


class _Header(NamedTuple):
    """What the beginning of a file or member says of its array; it is `length` bytes long."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int


def _read_header(file: IO[bytes]) -> _Header:
    read = _HEADERS[np.lib.format.read_magic(file)]
    return _Header(*read(file), file.tell())


def _check(header: _Header, name: str, size: int) -> None:
    """Refuse an array of objects, and one that promises more than the `size` bytes that it has."""
    if header.dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, which are not read; save plain numbers or text"
        )
    if min(header.shape, default=0) < 0:
        raise DataError(f"{name} has the shape {header.shape}")
    if header.length + math.prod(header.shape) * header.dtype.itemsize > size:
        raise DataError(f"{name} is shorter than its header says")


def _map(path: Path, info: zipfile.ZipInfo, header: _Header) -> np.ndarray:
    """A member that lies in the file as it lies in memory."""
    with path.open("rb") as file:
        file.seek(info.header_offset + _NAME_LENGTHS)
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        offset = file.tell() + header.length
    order: Literal["C", "F"] = "F" if header.fortran else "C"
    return np.memmap(path, header.dtype, "r", offset, header.shape, order).view(np.ndarray)


_HEADERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
