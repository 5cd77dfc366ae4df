"""The data set that comes with the package: everyday objects as small point clouds."""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

__all__ = ["HomeObjects", "load_homeobjects"]

_FOLDER = "homeobjects"


@dataclass(frozen=True)
class HomeObjects:
    """Point clouds of furniture and other everyday things, some of them in classes.

    The clouds are sampled from the models of the Sweet Home 3D furniture libraries, which are
    under CC BY 3.0 and CC0. `ATTRIBUTION.md` beside the data names the author and licence of
    every model and must go with any copy.
    """

    points: NDArray[np.float32]
    """`(S, 1024, 3)`, unit ball around the mean of the points, y up, most fronts towards +z.
    Each cloud is in farthest-point order, so the first k points cover the shape evenly."""
    labels: NDArray[np.int64]
    """`(S,)` places in `class_names`; -1 for shapes without a class."""
    class_names: tuple[str, ...]
    split: NDArray[np.str_]
    """`(S,)`, "train", "val" or "test" for shapes with a class, else "unlabelled"."""
    ids: tuple[str, ...]
    """Library and catalogue id, such as "Scopia#bed1"; unique."""
    titles: tuple[str, ...]
    """English names from the catalogue."""
    groups: NDArray[np.int64]
    """`(S,)`; near-duplicates and variants of one model share a number and a part of the split.
    Shapes that share a group with a val or test shape are never "unlabelled"."""


def load_homeobjects() -> HomeObjects:
    """Load the embedded data set; the arrays are read-only and shared between calls.

    Example:
        >>> data = load_homeobjects()
        >>> train = data.split == "train"
        >>> points, labels = data.points[train], data.labels[train]
    """
    return _homeobjects()


@cache
def _homeobjects() -> HomeObjects:
    file = resources.files("pointpeft.data").joinpath(_FOLDER, "homeobjects.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        points = archive["points"].astype(np.float32) * archive["scale"]
        arrays = (points, archive["label"].astype(np.int64), archive["group"].astype(np.int64))
        split, names = archive["split"], archive["names"]
        ids, titles = archive["id"], archive["title"]
    for array in (*arrays, split):
        array.flags.writeable = False
    return HomeObjects(
        points=arrays[0],
        labels=arrays[1],
        class_names=tuple(map(str, names)),
        split=split,
        ids=tuple(map(str, ids)),
        titles=tuple(map(str, titles)),
        groups=arrays[2],
    )
