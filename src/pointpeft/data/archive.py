"""Data sets that hold all clouds in one array of an `.npz` file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointpeft.data.npz import read_npz, refuse_transposed
from pointpeft.data.parts import check_part_names
from pointpeft.data.splits import Item, Listing, canonical_split, class_spelling
from pointpeft.errors import DataError

__all__ = ["list_archive", "listing_of", "used_names"]

_EXPECTED = (
    "expected points (S, N, 3), label (S,) integers, names (classes,) text, "
    "and optionally split (S,) of 'train', 'val', 'test', seg (S, N) part labels, parts text"
)
_ID_KEYS = ("id", "ids", "model")


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
    try:
        return _list_arrays(read_npz(path), labelled, segmented)
    except DataError as error:
        raise DataError(f"{path}: {error}; {_EXPECTED}") from error


def listing_of(
    clouds: np.ndarray | Sequence[np.ndarray],
    ids: Sequence[str],
    classes: Sequence[str | None],
    splits: Sequence[str | None],
    names: tuple[str, ...],
) -> Listing:
    """A listing of clouds `(N, 3)` that are there already.

    Args:
        clouds: Points of every shape.
        ids: Their names, unique.
        classes: Their classes, None without one.
        splits: Their parts, "train", "val", "test" or "unlabelled"; None where none is stated.
        names: Class names in label order; those without a shape are left out, with a note.
    """
    items = tuple(
        Item(id, None if split == "unlabelled" else class_name, split, cloud)
        for id, class_name, split, cloud in zip(ids, classes, splits, clouds, strict=True)
    )
    kept, notes = used_names(items, names)
    return Listing(items, kept, max(map(len, clouds)), notes)


def used_names(
    items: Sequence[Item], names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names that have a shape, and a note on the others if there are any."""
    used = {item.class_name for item in items}
    unused = [name for name in names if name not in used]
    notes = (f"classes without any shape left out: {', '.join(unused)}",) if unused else ()
    return tuple(name for name in names if name in used), notes


def _list_arrays(arrays: Mapping[str, np.ndarray], labelled: bool, segmented: bool) -> Listing:
    if "points" not in arrays:
        raise DataError(f"no array 'points' among {sorted(arrays)}")
    points = arrays["points"]
    if points.ndim != 3 or points.shape[2] < 3 or points.dtype.kind not in "fiu":
        raise DataError(f"points {points.shape} of {points.dtype}")
    if points.size == 0:
        raise DataError(f"points {points.shape} is empty")
    refuse_transposed(points.shape, "points")
    count = len(points)
    ids = _unique(next((arrays[k] for k in _ID_KEYS if k in arrays), None), count)
    splits = _splits(arrays.get("split"), count)
    classes, names = _classes(arrays, count) if labelled else ([None] * count, ())
    listing = listing_of(points[:, :, :3], ids, classes, splits, names)
    return _with_parts(arrays, points.shape[:2], listing) if segmented else listing


def _classes(
    arrays: Mapping[str, np.ndarray], count: int
) -> tuple[list[str | None], tuple[str, ...]]:
    if "label" not in arrays or "names" not in arrays:
        raise DataError(f"needs 'label' and 'names', has {sorted(arrays)}")
    label, names = arrays["label"].reshape(-1), _texts(arrays["names"])
    if len(label) != count or label.dtype.kind not in "iu":
        raise DataError(f"label {label.shape} of {label.dtype}")
    if label.max() >= len(names):
        raise DataError(f"label {label.max()} but only {len(names)} names")
    if twice := sorted(name for name, number in Counter(names).items() if number > 1):
        raise DataError(f"names hold {', '.join(twice)} more than once")
    return [names[number] if number >= 0 else None for number in map(int, label)], names


def _with_parts(
    arrays: Mapping[str, np.ndarray], shape: tuple[int, ...], listing: Listing
) -> Listing:
    """The listing with the part labels of every shape and the names of the parts."""
    seg = arrays.get("seg")
    if seg is None:
        raise DataError(f"no array 'seg' among {sorted(arrays)}")
    if seg.shape != shape or seg.dtype.kind not in "iu":
        raise DataError(f"seg {seg.shape} of {seg.dtype} beside {shape} points")
    names: tuple[str, ...] = ()
    if "parts" in arrays:
        names = _texts(arrays["parts"])
        check_part_names(names, "parts")
    used = seg[[item.class_name is not None for item in listing.items]]
    if used.size and used.min() < 0:
        raise DataError(f"seg holds {used.min()}; part labels start at 0")
    if used.size and names and used.max() >= len(names):
        raise DataError(f"seg {used.max()} but only {len(names)} parts")
    items = tuple(replace(item, seg=row) for item, row in zip(listing.items, seg, strict=True))
    return replace(listing, items=items, part_names=names)


def _splits(split: np.ndarray | None, count: int) -> list[str | None]:
    if split is None:
        return [None] * count
    names = _texts(split)
    unknown = sorted({name for name in names if not canonical_split(name)})
    if unknown or len(names) != count:
        raise DataError(f"split {split.shape} with values {unknown[:5]}")
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
