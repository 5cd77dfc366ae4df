"""Data sets that hold all clouds in one array: an `.npz` file, or the set that comes along."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointpeft.data.npz import read_npz, refuse_transposed
from pointpeft.data.parts import EXPECTED_PARTS, check_part_names
from pointpeft.data.splits import Item, Listing, canonical_split, class_spelling
from pointpeft.errors import DataError

__all__ = ["HomeObjects", "list_archive", "list_embedded", "load_homeobjects", "used_names"]

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


_EXPECTED = (
    "expected points (S, N, 3), label (S,) integers, names (classes,) text, "
    "and optionally split (S,) of 'train', 'val', 'test', seg (S, N) part labels, parts text"
)
_ID_KEYS = ("id", "ids", "model")
_KEYS = ("points", "label", "names", "split", "seg", "parts", *_ID_KEYS)


def list_archive(path: Path, *, labelled: bool = True, segmented: bool = False) -> Listing:
    """The shapes of an `.npz` data set; negative labels mark shapes without a class.

    Large arrays that are stored without compression stay in the file, which is mapped.

    Args:
        path: File with the arrays `points`, `label`, `names` and optionally `split`, `id`, `seg`,
            `parts`.
        labelled: Whether labels and names must be there.
        segmented: Whether part labels `seg (S, N)` must be there; `parts` may name them.

    Raises:
        DataError: The file is damaged, or an array is missing or of another form.
    """
    arrays = _load(path, leave=() if segmented else ("seg", "parts"))
    points = _points(path, arrays)
    count = len(points)
    ids = _unique(next((arrays[k] for k in _ID_KEYS if k in arrays), None), count)
    splits = _splits(path, arrays.get("split"), count)
    if not labelled:
        classes: Sequence[str | None] = [None] * count
        names: tuple[str, ...] = ()
    else:
        classes, names = _classes(path, arrays, count)
    listing = _listing(points, ids, classes, splits, names)
    return _with_parts(path, arrays, listing) if segmented else listing


def list_embedded(*, labelled: bool = True) -> Listing:
    """The shapes of the data set that comes with the package."""

    data = load_homeobjects()
    names = tuple(str(name) for name in data.class_names)
    classes = [names[label] if labelled and label >= 0 else None for label in map(int, data.labels)]
    splits = [canonical_split(str(split)) for split in data.split]
    ids = _unique(np.asarray(data.ids), len(data.points))
    return _listing(data.points, ids, classes, splits, names if labelled else ())


def used_names(
    items: Sequence[Item], names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names that have a shape, and a note on the others if there are any."""
    used = {item.class_name for item in items}
    unused = [name for name in names if name not in used]
    notes = (f"classes without any shape left out: {', '.join(unused)}",) if unused else ()
    return tuple(name for name in names if name in used), notes


def _listing(
    points: np.ndarray,
    ids: Sequence[str],
    classes: Sequence[str | None],
    splits: Sequence[str | None],
    names: tuple[str, ...],
) -> Listing:
    items = tuple(
        Item(id, None if split == "unlabelled" else class_name, split, cloud)
        for id, class_name, split, cloud in zip(ids, classes, splits, points, strict=True)
    )
    kept, notes = used_names(items, names)
    return Listing(items, kept, points.shape[1], notes)


def _load(path: Path, leave: Container[str]) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, leave, wanted=_KEYS)
    except DataError as error:
        raise DataError(f"{path}: {error}; {_EXPECTED}") from error


def _points(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    points = arrays.get("points")
    if points is None:
        raise DataError(f"{path}: no array 'points' among {sorted(arrays)}; {_EXPECTED}")
    if points.ndim != 3 or points.shape[2] < 3 or points.dtype.kind not in "fiu":
        raise DataError(f"{path}: points {points.shape} of {points.dtype}; {_EXPECTED}")
    if points.size == 0:
        raise DataError(f"{path}: points {points.shape} is empty; {_EXPECTED}")
    refuse_transposed(points.shape, f"{path}: points")
    return points[:, :, :3]


def _classes(
    path: Path, arrays: Mapping[str, np.ndarray], count: int
) -> tuple[list[str | None], tuple[str, ...]]:
    if "label" not in arrays or "names" not in arrays:
        raise DataError(f"{path}: needs 'label' and 'names', has {sorted(arrays)}; {_EXPECTED}")
    label, names = arrays["label"].reshape(-1), _texts(arrays["names"])
    if len(label) != count or label.dtype.kind not in "iu":
        raise DataError(f"{path}: label {label.shape} of {label.dtype}; {_EXPECTED}")
    if label.max() >= len(names):
        raise DataError(f"{path}: label {label.max()} but only {len(names)} names; {_EXPECTED}")
    if len(set(names)) < len(names):
        twice = sorted(name for name, number in Counter(names).items() if number > 1)
        raise DataError(f"{path}: names hold {', '.join(twice)} more than once")
    return [names[number] if number >= 0 else None for number in map(int, label)], names


def _with_parts(path: Path, arrays: Mapping[str, np.ndarray], listing: Listing) -> Listing:
    """The listing with the part labels of every shape and the names of the parts."""
    seg, expected = arrays.get("seg"), arrays["points"].shape[:2]
    if seg is None:
        raise DataError(f"{path}: no array 'seg' among {sorted(arrays)}; {EXPECTED_PARTS}")
    if seg.shape != expected or seg.dtype.kind not in "iu":
        raise DataError(f"{path}: seg {seg.shape} of {seg.dtype}; expected integers {expected}")
    names = _texts(arrays["parts"]) if "parts" in arrays else ()
    if "parts" in arrays:
        check_part_names(names, f"{path}: parts")
    with_class = [place for place, item in enumerate(listing.items) if item.class_name is not None]
    if with_class and seg[with_class].min() < 0:
        raise DataError(f"{path}: seg holds {seg[with_class].min()}; part labels start at 0")
    if with_class and names and seg[with_class].max() >= len(names):
        raise DataError(f"{path}: seg {seg[with_class].max()} but only {len(names)} parts")
    items = tuple(replace(item, seg=row) for item, row in zip(listing.items, seg, strict=True))
    return replace(listing, items=items, part_names=names)


def _splits(path: Path, split: Any, count: int) -> list[str | None]:
    if split is None:
        return [None] * count
    names = _texts(split)
    unknown = sorted({name for name in names if not canonical_split(name)})
    if unknown or len(names) != count:
        raise DataError(f"{path}: split {split.shape} with values {unknown[:5]}; {_EXPECTED}")
    return [canonical_split(name) for name in names]


def _texts(array: np.ndarray) -> tuple[str, ...]:
    return tuple(class_spelling(name) for name in array.ravel().tolist())


def _unique(given: np.ndarray | None, count: int) -> list[str]:
    """Item names: the given ones, numbered where one occurs again, or else their places."""
    if given is None or given.shape != (count,):
        return [f"{place:06d}" for place in range(count)]
    seen = Counter[str]()
    ids = []
    for name in map(class_spelling, given.tolist()):
        ids.append(f"{name}#{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return ids
