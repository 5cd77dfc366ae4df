"""Clouds that are stored as arrays: which axis is which."""

import numpy as np

from pointpeft.errors import DataError

__all__ = ["as_cloud", "refuse_transposed"]


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
