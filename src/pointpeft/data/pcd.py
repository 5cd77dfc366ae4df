"""Reader of the Point Cloud Data format (`.pcd`, version 0.7): ascii, binary, binary_compressed."""

import struct

import numpy as np

from pointpeft.data.triangles import Geometry
from pointpeft.errors import DataError

__all__ = ["decompress_lzf", "parse_pcd"]

_AXES = ("x", "y", "z")
_KNOWN_SIZES = {"F": (2, 4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}


def parse_pcd(content: bytes) -> Geometry:
    """Points of a `.pcd` file; the format marks measurements without a return by NaN.

    Raises:
        DataError: The header or the data are not as the format wants them.
    """
    header, data = _split_header(content)
    layout = _row_layout(header)
    num_points = _point_count(header)
    encoding = header["DATA"][0].lower()
    if encoding not in _READERS:
        raise DataError(f"DATA {encoding!r}: expected {', '.join(_READERS)}")
    return _READERS[encoding](data, layout, num_points), None, ()


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Undo LZF compression.

    A control byte below 32 is followed by that many plus one literal bytes; any other one is a
    copy of earlier output, its length in the high three bits and its distance in the rest.

    Raises:
        DataError: The stream is truncated, or does not give exactly `size` bytes.
    """
    out = bytearray()
    at = 0
    try:
        while at < len(data) and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            start = len(out) - ((control & 31) << 8) - data[at] - 1
            at += 1
            if start < 0:
                raise DataError("compressed data refer to bytes before their beginning")
            length += 2
            period = out[start : start + length]  # the copy may reach into what it appends
            out += (period * -(-length // len(period)))[:length]
    except IndexError:
        raise DataError("compressed data end in the middle of a step") from None
    if len(out) != size:
        raise DataError(f"compressed data unpack to {len(out)} bytes, the header says {size}")
    return bytes(out)


def _split_header(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = content.find(b"\n", at)
        if end < 0:
            raise DataError("no DATA line: not a pcd file, or cut off in its header")
        words = content[at:end].decode("ascii", errors="replace").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
    if not header["DATA"]:
        raise DataError("the DATA line names no encoding")
    return header, content[at:]


def _row_layout(header: dict[str, list[str]]) -> np.dtype:
    """One point as a structured type; fields of the same name or padding get unique names."""
    names = header.get("FIELDS", header.get("COLUMNS", []))
    kinds = header.get("TYPE", ["F"] * len(names))
    counts = [int(word) for word in header.get("COUNT", ["1"] * len(names))]
    sizes = [int(word) for word in header.get("SIZE", ["4"] * len(names))]
    if not len(names) == len(kinds) == len(counts) == len(sizes):
        raise DataError("FIELDS, SIZE, TYPE and COUNT differ in length")
    if any(names.count(axis) != 1 for axis in _AXES):
        raise DataError(f"FIELDS {' '.join(names)}: expected x, y and z once each")
    fields: list[tuple[str, str, tuple[int]]] = []
    for name, kind, size, count in zip(names, kinds, sizes, counts, strict=True):
        if size not in _KNOWN_SIZES.get(kind, ()) or count < 1:
            raise DataError(f"field {name}: no type {kind!r} of {size} bytes, {count} times")
        key = name if name in _AXES else f"{len(fields)}_{name}"
        fields.append((key, f"<{kind.lower()}{size}", (count,)))
    return np.dtype(fields)


def _point_count(header: dict[str, list[str]]) -> int:
    if header.get("POINTS"):
        return int(header["POINTS"][0])
    if header.get("WIDTH") and header.get("HEIGHT"):
        return int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
    raise DataError("the header has neither POINTS nor WIDTH and HEIGHT")


def _ascii_points(data: bytes, layout: np.dtype, num_points: int) -> np.ndarray:
    lines = [line.split() for line in data.decode("ascii", errors="replace").splitlines()]
    lines = [fields for fields in lines if fields]
    if len(lines) != num_points:
        raise DataError(f"the header says {num_points} points, there are {len(lines)} lines")
    widths = {name: layout[name].shape[0] for name in layout.names or ()}
    starts = dict(zip(widths, np.cumsum([0, *widths.values()]), strict=False))
    num_fields = sum(widths.values())
    points = np.empty((num_points, 3))
    for row, fields in enumerate(lines):
        try:
            if len(fields) != num_fields:
                raise ValueError
            points[row] = [float(fields[starts[axis]]) for axis in _AXES]
        except ValueError:
            raise DataError(
                f"point {row + 1}: expected {num_fields} numbers, got {' '.join(fields)[:60]!r}"
            ) from None
    return points


def _binary_points(data: bytes, layout: np.dtype, num_points: int) -> np.ndarray:
    needed = num_points * layout.itemsize
    if len(data) < needed:
        raise DataError(f"{num_points} points need {needed} bytes, the file has {len(data)}")
    rows = np.frombuffer(data, dtype=layout, count=num_points)
    return np.column_stack([rows[axis][:, 0].astype(np.float64) for axis in _AXES])


def _compressed_points(data: bytes, layout: np.dtype, num_points: int) -> np.ndarray:
    """Points of the compressed encoding, which stores field after field, not point after point."""
    if len(data) < 8:
        raise DataError("the compressed block has no sizes in front")
    packed_size, size = struct.unpack("<II", data[:8])
    packed = data[8 : 8 + packed_size]
    if len(packed) < packed_size:
        raise DataError(f"the compressed block has {len(packed)} bytes, not {packed_size}")
    if size != num_points * layout.itemsize:
        raise DataError(f"{num_points} points of {layout.itemsize} bytes do not make {size} bytes")
    fields = [
        (name, layout[name].base, (num_points, *layout[name].shape)) for name in layout.names or ()
    ]
    block = np.frombuffer(decompress_lzf(packed, size), dtype=np.dtype(fields))[0]
    return np.column_stack([block[axis][:, 0].astype(np.float64) for axis in _AXES])


_READERS = {
    "ascii": _ascii_points,
    "binary": _binary_points,
    "binary_compressed": _compressed_points,
}
