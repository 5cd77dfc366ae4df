"""Read a pickle of plain arrays, the form of some published caches, without running its code.

A pickle names classes and functions, and loading it the usual way calls them. Here the few names
that stand for NumPy arrays lead to functions of this file, which build arrays of numbers or text
and nothing else; any other name is refused.
"""

import pickle
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pointpeft.errors import DataError

__all__ = ["read_pickle"]

_PLAIN_KINDS = "biufcSU"
"""Kinds of dtype whose values are numbers or text, never references to objects."""
_MOST_VALUES = 100_000
"""A pickle can hold a list twice in a list, that one twice in another, and so on without end."""


def read_pickle(path: Path) -> Any:
    """What a pickle of arrays, numbers, text, lists, tuples and dictionaries holds.

    Pickles of NumPy 1 and 2 and of Python 2 and 3 are read alike.

    Raises:
        DataError: The file is missing or damaged, or names anything that is no array.
    """
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, encoding="latin1").load(), count(1))
    except _RefusedError as error:
        raise DataError(
            f"{path}: refused, since it names {error}, which could run code when loaded; "
            "expected arrays, numbers and text only"
        ) from error
    except Exception as error:  # a damaged file can make the reader fail in any way
        reason = f"{type(error).__name__}: {error}".strip(": ")
        raise DataError(f"{path}: cannot be read as a pickle of arrays ({reason})") from error


class _RefusedError(pickle.UnpicklingError):
    """The pickle names something that is no array; the message is that name."""


class _Unpickler(pickle.Unpickler):
    """Follows the names that :meth:`find_class` knows."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function of the pickle."""
        plain = module.replace("numpy._core.", "numpy.core.")
        if (plain, name) not in _STAND_INS:
            raise _RefusedError(f"{module}.{name}")
        return _STAND_INS[plain, name]


class _Dtype:
    """A dtype of numbers or text. Of its pickled state only the byte order is used."""

    def __init__(self, code: object, *_: object) -> None:
        self.value = np.dtype(code if isinstance(code, str) else object)
        if self.value.kind not in _PLAIN_KINDS:
            raise _RefusedError(f"dtype {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that is still to be filled; its dtype must be a :class:`_Dtype`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if any(size < 0 for size in shape):
            raise ValueError(f"array of shape {shape}")
        checked: Any = (1, tuple(shape), dtype.value, bool(fortran), _as_bytes(raw))
        super().__setstate__(checked)


def _empty_array(*_: object) -> _Array:
    return np.ndarray.__new__(_Array, (0,))


def _array_of_buffer(
    buffer: bytes, dtype: _Dtype, shape: Sequence[int], order: Literal["C", "F"]
) -> np.ndarray:
    return np.frombuffer(buffer, dtype.value).reshape(shape, order=order)


def _scalar(dtype: _Dtype, raw: str | bytes) -> np.generic:
    return np.frombuffer(_as_bytes(raw), dtype.value)[0]


def _as_bytes(raw: str | bytes, *_: object) -> bytes:
    """Bytes as they are, or in the form of text, which old pickles use."""
    return raw.encode("latin1") if isinstance(raw, str) else bytes(memoryview(raw))


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct, never called
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
    ("_codecs", "encode"): _as_bytes,
    ("__builtin__", "bytes"): lambda: b"",  # how old pickles name empty bytes
}


def _plain(value: object, numbers: Iterator[int]) -> object:
    """Containers as they are, with ordinary arrays in them; `numbers` count the values."""
    if next(numbers) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES:,} values")
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        return {key: _plain(each, numbers) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, numbers) for each in value)
    return value
