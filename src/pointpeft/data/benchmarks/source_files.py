"""The files of benchmark data sets: where they lie, and reading them with errors that name them."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path

import numpy as np

from pointpeft.data.npz import as_cloud, read_npy, refuse_transposed
from pointpeft.errors import DataError
from pointpeft.formats import enumerate_names

__all__ = [
    "Expected",
    "Layout",
    "as_integer",
    "check_labels",
    "check_listed",
    "class_labels",
    "read_array",
    "read_h5",
    "read_json_list",
    "read_lines",
    "read_table",
]


@dataclass(frozen=True)
class Expected:
    """A line of the tree that a data set is published as.

    Attributes:
        path: Below the folder of the data set; `*` stands for any text.
        what: What is in it.
        needed: Whether the data set is incomplete without it.
        telling: Whether finding it tells that a folder holds this data set.
        instead: A file that may take its place.
    """

    path: str
    what: str
    needed: bool = True
    telling: bool = True
    instead: str | None = None

    def is_in(self, folder: Path) -> bool:
        """Whether such a file exists, or the one that may take its place."""
        return any(folder.glob(self.path)) or bool(
            self.instead and (folder / self.instead).is_file()
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """The files of a data set below their folder.

    Attributes:
        title: By which people know it.
        folder: Where it lies below the folder of all data.
        tree: Its files.
        owner: Where its owners distribute it.
    """

    title: str
    folder: str
    tree: tuple[Expected, ...]
    owner: str

    def find(self, root: Path) -> Path | None:
        """The data set's folder: `root` itself or where it lies below it; None if not there."""
        parts = Path(self.folder).parts
        candidates = [root.joinpath(*parts[start:]) for start in range(len(parts) + 1)]
        for folder in candidates:
            if any(each.telling and each.is_in(folder) for each in self.tree):
                return folder
        return None

    def folder_in(self, root: Path) -> Path:
        """As `find`.

        Raises:
            DataError: The data set is not there; the message shows what is expected where.
        """
        folder = self.find(root)
        if folder is None:
            raise DataError(f"{root}: {self.expectation(root / self.folder)}")
        return folder

    def require(self, folder: Path, path: str) -> Path:
        """A file of the data set.

        Raises:
            DataError: It is missing; the message shows what else is.
        """
        if not (folder / path).is_file():
            raise DataError(f"{folder / path}: no such file; {self.expectation(folder)}")
        return folder / path

    def expectation(self, folder: Path) -> str:
        """What is expected where, what of it `folder` lacks, and where to get it."""
        width = max(len(each.path) for each in self.tree)
        lines = [f"{self.title} is expected as", f"  {self.folder}/"]
        for each in self.tree:
            mark = "  <-- missing" if each.needed and not each.is_in(folder) else ""
            lines.append(f"    {each.path:<{width}}  {each.what}{mark}")
        return "\n".join([*lines, f"its owners distribute it at {self.owner}"])


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
    """Rows of numbers `(N, columns or more)` float32 of a text file."""
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
        return as_cloud(read_npy(path), "the array").astype(np.float32)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_h5(path: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `(S, N, 3)` float32 and labels `(S,)` int64: `data` and `label` of an HDF5 file."""
    import h5py  # here, so that importing the package does not wait for it

    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("data", "label") if not hasattr(file.get(key), "shape")]
            if missing:
                raise DataError(f"{path}: no data set {missing[0]!r} among {sorted(file)}")
            data, label = file["data"], file["label"]
            is_cloud = len(data.shape) == 3 and data.shape[2] >= 3 and data.dtype.kind in "fiu"
            is_labelled = data.shape[:1] == (label.size,) and label.dtype.kind in "iu"
            if not is_cloud or not data.size or not is_labelled:
                raise DataError(
                    f"{path}: data {data.shape} of {data.dtype}, label {label.shape} of "
                    f"{label.dtype}; expected data (S, N, 3) of numbers and label (S,) of integers"
                )
            refuse_transposed(data.shape, f"{path}: data")
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


def class_labels(
    list_file: Path, lines: Sequence[str], classes: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    """Labels `(S,)` int64 of the classes that the lines of a list name."""
    number = {name: label for label, name in enumerate(class_names)}
    for line, name in zip(lines, classes, strict=True):
        if name not in number:
            raise DataError(
                f"{list_file}: {line!r} is of no class; known: {enumerate_names(class_names)}"
            )
    return np.array([number[name] for name in classes], dtype=np.int64)


def as_integer(value: object) -> int:
    """A label of a pickle: a number, or an array of a single one."""
    return index(np.asarray(value).reshape(()).item())
