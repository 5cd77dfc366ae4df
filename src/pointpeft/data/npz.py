"""Arrays in one `.npz` file: written row by row, and read by mapping the file into memory."""

import math
import struct
import zipfile
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pointpeft.errors import DataError
from pointpeft.files import replacing

__all__ = ["Rows", "read_npz", "write_npz"]

_SMALLEST_MAPPED = 1 << 20
"""Arrays of fewer bytes are copied into memory, which also verifies their checksum."""
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


def read_npz(path: Path, leave: Container[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, by name.

    Large arrays that are stored without compression are mapped, read-only: they take no time to
    load, and processes that read the same file share them.

    Args:
        path: The file.
        leave: Names that are not read.

    Raises:
        Exception: Of any kind, when the file is damaged or holds objects.
    """
    with np.load(path, allow_pickle=False) as archive:
        large = {
            info.filename.removesuffix(".npy"): info
            for info in archive.zip.infolist()
            if info.compress_type == zipfile.ZIP_STORED and info.file_size >= _SMALLEST_MAPPED
        }
        return {
            name: _map(path, large[name]) if name in large else archive[name]
            for name in archive.files
            if name not in leave
        }


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


def _map(path: Path, info: zipfile.ZipInfo) -> np.ndarray:
    """A member that lies in the file as it lies in memory."""
    with path.open("rb") as file:
        file.seek(info.header_offset + _NAME_LENGTHS)
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        start = file.tell()
        read_header = _HEADERS[np.lib.format.read_magic(file)]
        shape, fortran, dtype = read_header(file)
        offset = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds objects")
    if offset - start + math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename} is shorter than its header says")
    order: Literal["C", "F"] = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order).view(np.ndarray)


_HEADERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
