import mmap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import read_shape
from pointpeft.data.npz import read_npz
from pointpeft.errors import DataError

LARGE = np.random.default_rng(0).normal(size=(100, 1000, 3)).astype(np.float32)


def is_mapped(array: np.ndarray) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_stored_arrays_are_mapped_read_only(tmp_path: Path, order: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, large=np.asarray(LARGE, order=order), small=LARGE[:1])
    found = read_npz(path)
    assert is_mapped(found["large"])
    assert not is_mapped(found["small"])
    assert not found["large"].flags.writeable
    assert np.array_equal(found["large"], LARGE)
    assert np.array_equal(found["small"], LARGE[:1])


def test_compressed_arrays_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set.npz", large=LARGE)
    found = read_npz(tmp_path / "set.npz")["large"]
    assert not is_mapped(found)
    assert np.array_equal(found, LARGE)


def test_file_that_unpacks_to_more_than_its_limit_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set.npz", points=LARGE)
    assert read_npz(tmp_path / "set.npz", most_unpacked=2 * LARGE.nbytes)["points"].size
    with pytest.raises(DataError, match=f"{LARGE.nbytes:,}"):
        read_npz(tmp_path / "set.npz", most_unpacked=LARGE.nbytes)["points"]


def test_one_shape_unpacks_to_what_a_shape_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "shape.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        np.save(tmp_path / "points.npy", LARGE[0])
        archive.write(tmp_path / "points.npy", "points.npy")
    size = (tmp_path / "points.npy").stat().st_size
    claim = path.read_bytes().replace(size.to_bytes(4, "little"), (2**31).to_bytes(4, "little"))
    path.write_bytes(claim)
    with pytest.raises(DataError, match="2,147,483,648"):
        read_shape(path)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", large=LARGE, objects=np.array([{}], dtype=object))
    found = read_npz(tmp_path / "set.npz")
    assert list(found) == ["large", "objects"]
    assert np.array_equal(found["large"], LARGE)
    assert "other" not in found
    with pytest.raises(DataError, match=r"objects\.npy"):
        found["objects"]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.replace(b"(100, 1000, 3)", b"(900, 1000, 3)"),
        lambda header: header.replace(b"(100, 1000, 3)", b"(-10, 1000, 3)"),
        lambda header: header.replace(b"'<f4'", b"'|O' "),
    ],
)
def test_header_that_promises_more_is_refused(tmp_path: Path, change) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=LARGE, y=LARGE)
    content = path.read_bytes()
    path.write_bytes(change(content[:400]) + content[400:])
    with pytest.raises(ValueError, match=r"x\.npy"):
        read_npz(path)["x"]
