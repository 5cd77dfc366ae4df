import itertools
import mmap
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import read_shape
from pointpeft.data.npz import Rows, read_npz, write_npz
from pointpeft.errors import DataError

LARGE = np.random.default_rng(0).normal(size=(100, 1000, 3)).astype(np.float32)


def is_mapped(array: np.ndarray) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def test_rows_and_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    write_npz(path, {"points": Rows(LARGE.shape, np.float32, iter(LARGE)), "names": np.array("ab")})
    for found in (read_npz(path), dict(np.load(path))):
        assert list(found) == ["points", "names"]
        assert found["points"].dtype == np.float32
        assert np.array_equal(found["points"], LARGE)
        assert found["names"] == "ab"
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_content_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"x": LARGE[0]})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_rows_never_lie_in_memory_together(tmp_path: Path) -> None:
    rows = (np.full((1000, 3), place, np.float32) for place in range(200))
    tracemalloc.start()
    write_npz(tmp_path / "set.npz", {"points": Rows((200, 1000, 3), np.float32, rows)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * (tmp_path / "set.npz").stat().st_size


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
    with pytest.raises(DataError, match="uncompressed"):
        read_npz(tmp_path / "set.npz", most_unpacked=LARGE.nbytes)


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


def test_names_left_out_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", large=LARGE, objects=np.array([{}], dtype=object))
    assert list(read_npz(tmp_path / "set.npz", leave=("objects",))) == ["large"]
    assert list(read_npz(tmp_path / "set.npz", only=("large", "other"))) == ["large"]


def test_mapped_array_outlives_the_file_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    write_npz(path, {"x": LARGE})
    found = read_npz(path)["x"]
    write_npz(path, {"x": -LARGE})
    assert np.array_equal(found, LARGE)
    assert np.array_equal(read_npz(path)["x"], -LARGE)


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
    write_npz(path, {"x": LARGE, "y": LARGE})
    content = path.read_bytes()
    path.write_bytes(change(content[:400]) + content[400:])
    with pytest.raises(ValueError, match=r"x\.npy"):
        read_npz(path)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (LARGE[:99], "99 rows, not 100"),
        (itertools.chain(LARGE, LARGE[:1]), "101 rows, not 100"),
        ([LARGE[0], LARGE[1, :7]], r"\(7, 3\), not \(1000, 3\)"),
    ],
)
def test_wrong_rows_leave_the_old_file(tmp_path: Path, rows, reason: str) -> None:
    path = tmp_path / "set.npz"
    path.write_text("old")
    with pytest.raises(DataError, match=reason):
        write_npz(path, {"points": Rows(LARGE.shape, np.float32, rows)})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
