import struct
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import read_shape
from pointpeft.data.pcd import decompress_lzf
from pointpeft.errors import DataError

ROWS = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u1", (3,)), ("t", "<f8")])


@pytest.fixture
def rows(cloud: np.ndarray) -> np.ndarray:
    made = np.zeros(len(cloud), dtype=ROWS)
    for place, axis in enumerate("xyz"):
        made[axis] = cloud[:, place]
    made["t"] = np.arange(len(cloud))
    return made


def header(count: int, encoding: str) -> bytes:
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS x y z rgb t",
        "SIZE 4 4 4 1 8",
        "TYPE F F F U F",
        "COUNT 1 1 1 3 1",
        f"WIDTH {count}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {count}",
        f"DATA {encoding}",
    ]
    return "\n".join(lines).encode() + b"\n"


def lzf_literals(data: bytes) -> bytes:
    """LZF stream without any copy step."""
    chunks = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(chunk) - 1]) + chunk for chunk in chunks)


def encode(rows: np.ndarray, encoding: str) -> bytes:
    if encoding == "ascii":
        lines = [
            " ".join(str(value) for name in ROWS.names for value in np.ravel(row[name]))
            for row in rows
        ]
        return header(len(rows), encoding) + "\n".join(lines).encode()
    if encoding == "binary":
        return header(len(rows), encoding) + rows.tobytes()
    block = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in ROWS.names)
    packed = lzf_literals(block)
    return header(len(rows), encoding) + struct.pack("<II", len(packed), len(block)) + packed


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_encodings_give_the_same_points(
    tmp_path: Path, rows: np.ndarray, cloud: np.ndarray, encoding: str
) -> None:
    (tmp_path / "a.pcd").write_bytes(encode(rows, encoding))
    shape = read_shape(tmp_path / "a.pcd")
    assert shape.faces is None
    assert np.allclose(shape.points, cloud, atol=1e-5)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_truncation_is_an_error(tmp_path: Path, rows: np.ndarray, encoding: str) -> None:
    content = encode(rows, encoding)
    for keep in (0.2, 0.6, 0.9):
        (tmp_path / "a.pcd").write_bytes(content[: int(keep * len(content))])
        with pytest.raises(DataError, match=r"a\.pcd"):
            read_shape(tmp_path / "a.pcd")


def test_missing_measurements_are_left_out_with_a_note(tmp_path: Path, rows: np.ndarray) -> None:
    rows["x"][::3] = np.nan
    (tmp_path / "a.pcd").write_bytes(encode(rows, "binary"))
    shape = read_shape(tmp_path / "a.pcd")
    assert len(shape.points) == 200
    assert "100 of 300" in shape.notes[0]


def test_header_without_z_is_an_error(tmp_path: Path, rows: np.ndarray) -> None:
    content = encode(rows, "binary").replace(b"FIELDS x y z", b"FIELDS x y w")
    (tmp_path / "a.pcd").write_bytes(content)
    with pytest.raises(DataError, match="x y w"):
        read_shape(tmp_path / "a.pcd")


def test_lzf_copies_may_overlap() -> None:
    literal = bytes([2]) + b"abc"
    copy_far = bytes([(1 << 5) | 0, 2])  # three bytes from three back
    copy_near = bytes([(7 << 5) | 0, 10, 0])  # nineteen bytes from one back
    expected = b"abcabc" + b"c" * 19
    assert decompress_lzf(literal + copy_far + copy_near, len(expected)) == expected


@pytest.mark.parametrize("stream", [bytes([2]) + b"ab", bytes([32, 5]), bytes([7 << 5]), b""])
def test_lzf_damage_is_an_error(stream: bytes) -> None:
    with pytest.raises(DataError):
        decompress_lzf(stream, 3)
