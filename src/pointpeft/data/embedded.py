"""The data sets that come with the package: household objects, and mechanical parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointpeft.data.archive import listing_of
from pointpeft.data.scanning import simulate_scan
from pointpeft.data.splits import Listing, canonical_split

__all__ = [
    "EMBEDDED_LICENSES",
    "EMBEDDED_NAMES",
    "HomeObjects",
    "MechParts",
    "is_embedded",
    "list_embedded",
    "load_homeobjects",
    "load_mechparts",
    "scan_mechparts",
]

EMBEDDED_NAMES = ("homeobjects", "mechparts", "mechparts-scan")
"""What the data sets that come with the package are called."""
EMBEDDED_LICENSES = {
    "homeobjects": "CC-BY-3.0 AND CC-BY-3.0-US AND CC0-1.0",
    "mechparts": "Apache-2.0",
    "mechparts-scan": "Apache-2.0",
}
"""Under which each of them is; `ATTRIBUTION.md` beside the data says more."""


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


@dataclass(frozen=True, eq=False)
class MechParts:
    """Point clouds of standard mechanical parts: fasteners, bearings, flanges, gears and others.

    The clouds are sampled from parts that were made with bd-warehouse, under the Apache License
    2.0; see `ATTRIBUTION.md` beside the data.
    """

    points: NDArray[np.float32]
    """`(S, 2048, 3)`, uniform on the surface, unit ball around the mean of the points. The axis of
    a part is y, as its maker has it: screws with the head up, flanges with the face down."""
    labels: NDArray[np.int64]
    """`(S,)` places in `class_names`."""
    class_names: tuple[str, ...]
    split: NDArray[np.str_]
    """`(S,)`, "train", "val" or "test"."""
    series: tuple[str, ...]
    """What each shape was made after: a standard, often with a range of its sizes, a pressure
    class, a dimension series or the like. All shapes of a class and series are in one part of the
    split."""
    sizes: tuple[str, ...]
    """Size and length within the series, such as "M6-1 x 30"."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Class, series and size; unique."""
        named = zip(self.labels.tolist(), self.series, self.sizes, strict=True)
        return tuple(f"{self.class_names[label]}/{series}/{size}" for label, series, size in named)


@cache
def load_homeobjects() -> HomeObjects:
    """Load the embedded data set; the arrays are read-only and shared between calls.

    Example:
        >>> data = load_homeobjects()
        >>> train = data.split == "train"
        >>> points, labels = data.points[train], data.labels[train]
    """
    arrays = _read("homeobjects")
    return HomeObjects(
        points=_frozen(arrays["points"].astype(np.float32) * arrays["scale"]),
        labels=_frozen(arrays["label"].astype(np.int64)),
        class_names=_texts(arrays["names"]),
        split=_frozen(arrays["split"]),
        ids=_texts(arrays["id"]),
        titles=_texts(arrays["title"]),
        groups=_frozen(arrays["group"].astype(np.int64)),
    )


@cache
def load_mechparts() -> MechParts:
    """Load the embedded data set; the arrays are read-only and shared between calls."""
    arrays = _read("mechparts")
    # The file holds the way from each point to the next one, in steps of the grid.
    grid = np.cumsum(arrays["steps"], axis=2, dtype=np.int16).transpose(0, 2, 1)
    return MechParts(
        points=_frozen(grid.astype(np.float32) * arrays["scale"]),
        labels=_frozen(arrays["label"].astype(np.int64)),
        class_names=_texts(arrays["names"]),
        split=_frozen(arrays["split"]),
        series=_texts(arrays["series"]),
        sizes=_texts(arrays["size"]),
    )


@lru_cache(maxsize=1)  # it takes some seconds
def scan_mechparts(data: MechParts) -> tuple[NDArray[np.float32], ...]:
    """One simulated scan `(M, 3)` of each part, with the settings of `ScanConfig()`.

    The class, series and size of a part are the seed, so it has the same scan at every call.
    """
    pairs = zip(data.points, data.ids, strict=True)
    return tuple(_frozen(simulate_scan(cloud, _seed(name))) for cloud, name in pairs)


def is_embedded(source: str | Path) -> bool:
    """Whether a source is the name of a data set that comes with the package."""
    return str(source) in EMBEDDED_NAMES


def list_embedded(name: str, *, labelled: bool = True) -> Listing:
    """The shapes of a data set that comes with the package.

    Args:
        name: One of `EMBEDDED_NAMES`.
        labelled: Whether the shapes have their classes.
    """
    if name == "homeobjects":
        home = load_homeobjects()
        return _listing(home, home.points, labelled)
    data = load_mechparts()
    clouds = scan_mechparts(data) if name == "mechparts-scan" else data.points
    listing = _listing(data, clouds, labelled)
    # A part and its scan are one object: what was trained on either is known in both.
    items = (replace(item, object_id=f"mechparts/{item.id}") for item in listing.items)
    return replace(listing, items=tuple(items))


def _listing(
    data: HomeObjects | MechParts, clouds: np.ndarray | Sequence[np.ndarray], labelled: bool
) -> Listing:
    names = data.class_names
    classes = [names[label] if labelled and label >= 0 else None for label in map(int, data.labels)]
    splits = [canonical_split(str(split)) for split in data.split]
    return listing_of(clouds, data.ids, classes, splits, names if labelled else ())


def _read(name: str) -> dict[str, np.ndarray]:
    file = resources.files("pointpeft.data").joinpath(name, f"{name}.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _texts(array: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, array))


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
