import collections
import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointpeft.data.pickles import read_pickle
from pointpeft.errors import DataError

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    np.array(3.5),
    np.zeros((0, 3)),
    np.array(["chair", "desk"]),
    np.array([True, False]),
]


def write(tmp_path: Path, value: Any, protocol: int = 4) -> Path:
    path = tmp_path / "cache.dat"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    found = read_pickle(write(tmp_path, array, protocol))
    assert type(found) is np.ndarray
    assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert np.array_equal(found, array)


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_scalars_come_back(tmp_path: Path, protocol: int) -> None:
    value = {"train": [(1, 2.5, "a", None, True)], "count": np.int64(7), 3: np.float32(0.5)}
    found = read_pickle(write(tmp_path, value, protocol))
    assert found == value
    assert type(found["train"][0]) is tuple
    assert found["count"].dtype == np.int64


def test_module_names_of_numpy_1_and_2_are_read_alike(tmp_path: Path) -> None:
    path = write(tmp_path, [ARRAYS[0], np.int32(4)], protocol=2)
    content = path.read_bytes()
    old, new = b"numpy.core.", b"numpy._core."
    for before, after in ((new, old), (old, new)):
        path.write_bytes(content.replace(before, after))
        assert after in path.read_bytes()
        cloud, number = read_pickle(path)
        assert np.array_equal(cloud, ARRAYS[0])
        assert number == 4


def test_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """There the values of an array are a string of bytes."""
    path = tmp_path / "old.pkl"
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x80\xfftb."
    )
    assert read_pickle(path).tolist() == [128, 255]


class Code:
    """Unpickling an instance makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    value = [[ARRAYS[0], Code(tmp_path / "ran")], [1]]
    with pytest.raises(DataError, match=r"cache\.dat: .*posix\.mkdir"):
        read_pickle(write(tmp_path, value, protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (np.random.default_rng, "numpy.random"),
        (np.array([{}], dtype=object), "dtype 'O8'"),
        (np.zeros(2, dtype=[("a", "f4")]), "dtype 'V4'"),
        (Path("x"), "pathlib"),
        (eval, "builtins.eval"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_anything_but_plain_arrays_is_refused(tmp_path: Path, value: Any, named: str) -> None:
    with pytest.raises(DataError, match=re.escape(named)):
        read_pickle(write(tmp_path, value))


def test_array_class_cannot_be_called(tmp_path: Path) -> None:
    """Called with a buffer, it would take the bytes of a file for references to objects."""
    path = tmp_path / "call.pkl"
    path.write_bytes(b"cnumpy\nndarray\n(K\x01\x85X\x01\x00\x00\x00OU\x0800000000tR.")
    with pytest.raises(DataError, match=r"call\.pkl"):
        read_pickle(path)


@pytest.mark.parametrize("shape", [(-1, -6), (7,), (2, 4)])
def test_array_that_does_not_fit_its_values_is_refused(tmp_path: Path, shape: tuple) -> None:
    class Odd:
        def __reduce__(self) -> tuple:
            build, arguments, state = ARRAYS[0].__reduce__()
            return build, arguments, (state[0], shape, *state[2:])

    with pytest.raises(DataError, match=r"cache\.dat"):
        read_pickle(write(tmp_path, Odd()))


def test_damaged_pickles_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ARRAYS)
    content = path.read_bytes()
    endless = io.BytesIO()
    loop: list = []
    loop.append(loop)
    pickle.dump(loop, endless)
    doubled: list = []
    for _ in range(40):
        doubled = [doubled, doubled]
    growing = pickle.dumps(doubled)
    for damaged in (b"", b"not a pickle", content[:-20], endless.getvalue(), growing):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cache\.dat"):
            read_pickle(path)
    with pytest.raises(DataError, match=r"gone\.pkl"):
        read_pickle(tmp_path / "gone.pkl")
