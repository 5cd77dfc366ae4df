"""Write a labelled data set as a folder of clouds, by split and class."""

from pathlib import Path

import numpy as np

from pointpeft.data.shapes import ShapeData
from pointpeft.errors import DataError

__all__ = ["export_folder"]


def export_folder(data: ShapeData, folder: str | Path) -> int:
    """Write ``<folder>/<split>/<class>/<item>.xyz`` for every labelled shape.

    The result is itself a data set that :func:`pointpeft.load_shapes` reads.

    Args:
        data: what to write; its prepared clouds are written as text, one point a line.
        folder: a new or empty folder.

    Returns:
        The number of files written.

    Raises:
        DataError: the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; name a new one to export into")
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        for points, label, item in zip(part.points, part.labels, part.ids, strict=True):
            target = folder / name / data.class_names[label] / f"{_file_name(item)}.xyz"
            target.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(target, points, fmt="%.5f")
    return len(data.train) + len(data.val) + len(data.test)


def _file_name(item: str) -> str:
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in item)
    return kept.strip("_") or "shape"
