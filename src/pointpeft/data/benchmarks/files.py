"""Read the files of benchmark data sets; each error names the file and what is right."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.data.arrays import refuse_transposed
from pointpeft.errors import DataError
from pointpeft.formats import enumerate_names

__all__ = [
    "check_labels",
    "check_listed",
    "read_array",
    "read_h5",
    "read_json_list",
    "read_lines",
    "read_table",
]

"""Missing files that a message names before it says how many more there are."""


def read_lines(path: Path) -> list[str]:
    """Lines of a text file that are not blank."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    return [line.strip() for line in lines if line.strip()]


def read_json_list(path: Path) -> list[str]:
    """A JSON list of text."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not all(isinstance(each, str) for each in content):
        raise DataError(f"{path}: expected a list of text")
    return content


def read_table(path: Path, columns: int, delimiter: str | None = None) -> np.ndarray:
    """Rows of numbers `(N, columns or more)` float32 of a text file.

    Args:
        path: The file.
        columns: Fewest columns that it must have.
        delimiter: Between columns; by default white space.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a file without rows, refused below
            table = np.loadtxt(path, np.float32, delimiter=delimiter, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as rows of numbers ({error})") from error
    if table.size == 0 or table.shape[1] < columns:
        raise DataError(f"{path}: rows {table.shape}; expected at least {columns} columns")
    return table


def read_array(path: Path) -> np.ndarray:
    """A cloud `(N, 3)` float32 of an `.npy` file."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise DataError(f"{path}: cannot be read as npy ({error})") from error
    if not _is_numeric(array) or array.ndim != 2 or array.shape[1] < 3 or not len(array):
        raise DataError(f"{path}: {array.shape} of {array.dtype}; expected points (N, 3)")
    refuse_transposed(array.shape, f"{path}: the array")
    return np.ascontiguousarray(array[:, :3], np.float32)


def read_h5(path: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `(S, N, 3)` float32 and labels `(S,)` int64 of an HDF5 file.

    Args:
        path: A file with the data sets `data` and `label`.
        num_classes: Labels are below it.
    """
    import h5py  # here, so that importing the package does not wait for it

    try:
        with h5py.File(path, "r") as file:
            data, label = (_h5_dataset(path, file, key) for key in ("data", "label"))
            if len(data.shape) != 3 or data.shape[2] < 3 or not _is_numeric(data) or not data.size:
                raise DataError(f"{path}: data {data.shape} of {data.dtype}; {_H5_EXPECTED}")
            refuse_transposed(data.shape, f"{path}: data")
            if label.size != len(data) or label.dtype.kind not in "iu":
                raise DataError(
                    f"{path}: label {label.shape} of {label.dtype} for data {data.shape}; "
                    + _H5_EXPECTED
                )
            points, labels = data[...], label[...]
    except DataError:
        raise
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise DataError(
            f"{path}: cannot be read as HDF5 ({error}); it may be cut short: fetch it again"
        ) from error
    labels = labels.reshape(-1).astype(np.int64)
    check_labels(path, labels, num_classes)
    return np.ascontiguousarray(points[:, :, :3], np.float32), labels


_H5_EXPECTED = "expected data (S, N, 3) of numbers and label (S,) of integers"


def check_labels(path: Path, labels: np.ndarray, num_classes: int) -> None:
    """Refuse labels `(S,)` below 0 or of no class."""
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise DataError(
            f"{path}: label {labels[bad[0]]} of item {bad[0]}; expected 0 to {num_classes - 1}"
        )


def check_listed(list_file: Path, files: Sequence[Path]) -> None:
    """Refuse a list that names files which do not exist, or none at all."""
    if not files:
        raise DataError(f"{list_file}: names no shape")
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{list_file}: {len(missing)} of the {len(files)} files that it names are missing: "
            f"{enumerate_names(missing)}"
        )


def _h5_dataset(path: Path, file: Any, key: str) -> Any:
    found = file.get(key)
    if not hasattr(found, "shape"):
        raise DataError(f"{path}: no data set {key!r} among {sorted(file)}; {_H5_EXPECTED}")
    return found


def _is_numeric(array: Any) -> bool:
    return array.dtype.kind in "fiu"
