"""Arrays of `.npy` and `.npz` files, large ones by mapping the file; which axis is which."""

import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from pointpeft.errors import DataError

__all__ = ["as_cloud", "read_npy", "read_npz", "refuse_transposed"]


def as_cloud(array: np.ndarray, name: str) -> np.ndarray:
    """The first three columns of a numeric array `(N, 3 or more)`, as float32 or float64.

    Of an array of records, `(N,)`, the fields x, y and z.

    Raises:
        DataError: It has another form, or holds its points as columns.
    """
    if array.ndim == 1 and {"x", "y", "z"} <= set(array.dtype.names or ()):
        array = np.stack([array[axis] for axis in "xyz"], axis=1)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] < 3:
        raise DataError(
            f"{name} has shape {array.shape} and type {array.dtype}, "
            "a cloud needs numbers of shape (N, 3)"
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


def read_npz(path: Path, most_unpacked: int | None = None) -> Mapping[str, np.ndarray]:
    """The arrays of an `.npz`, by name, each read when it is asked for.

    Large arrays that are stored without compression are mapped, read-only: they take no time to
    load, and processes that read the same file share them.

    Args:
        path: The file.
        most_unpacked: Bytes that compressed arrays may unpack to, since a small file can claim any
            number; by default half of this machine's memory.

    Raises:
        DataError: The file is damaged or no `.npz` or, when an array is asked for, this one is
            damaged or holds Python objects, or more is unpacked.
    """
    return _Npz(path, _half_of_memory() if most_unpacked is None else most_unpacked)


class _Npz(Mapping[str, np.ndarray]):
    def __init__(self, path: Path, most_unpacked: int) -> None:
        self._path, self._most, self._unpacked = path, most_unpacked, 0
        with _described(path), zipfile.ZipFile(path) as archive:
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self._members = {name: info for name, info in names.items() if info.filename != name}

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, name: str) -> np.ndarray:
        info = self._members[name]
        is_stored = info.compress_type == zipfile.ZIP_STORED
        self._unpacked += 0 if is_stored else info.file_size
        if self._unpacked > self._most:
            raise DataError(
                f"its compressed arrays unpack to {self._unpacked:,} bytes, more than "
                f"{self._most:,}; store them uncompressed with numpy.savez, which needs no memory"
            )
        with (
            _described(self._path),
            zipfile.ZipFile(self._path) as archive,
            archive.open(info) as member,
        ):
            header = _checked_header(member, info.filename, info.file_size)
            if is_stored and info.file_size >= _SMALLEST_MAPPED:
                return _map(self._path, info, header)
            member.seek(0)
            return np.lib.format.read_array(member, allow_pickle=False)


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy`.

    Raises:
        DataError: The file is damaged or no `.npy`, or holds Python objects.
    """
    with _described(path), path.open("rb") as file:
        _checked_header(file, "the array", path.stat().st_size)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def _described(path: Path) -> Iterator[None]:
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make NumPy fail in any way
        reason = f"{type(error).__name__}: {error}".strip(": \n")
        raise DataError(
            f"cannot be read as {path.suffix[1:]}, it may be damaged or cut short ({reason})"
        ) from error


def _half_of_memory() -> int:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on every system
        memory = _COMMON_MEMORY
    return int(_MEMORY_SHARE * memory)


class _Header(NamedTuple):
    """What the beginning of a file or member says of its array; it is `length` bytes long."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int


def _checked_header(file: IO[bytes], name: str, size: int) -> _Header:
    """Refuse an array of objects, and one that promises more than the `size` bytes that it has."""
    header = _Header(*_HEADERS[np.lib.format.read_magic(file)](file), file.tell())
    if header.dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, which are not read; save plain numbers or text"
        )
    if min(header.shape, default=0) < 0:
        raise DataError(f"{name} has the shape {header.shape}")
    if header.length + math.prod(header.shape) * header.dtype.itemsize > size:
        raise DataError(f"{name} is shorter than its header says")
    return header


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
