"""Load a labelled data set, wherever it comes from, as arrays ready for a model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pointpeft.data.archive import list_archive, list_embedded
from pointpeft.data.cache import PreparedCache
from pointpeft.data.folder import EXPECTED_TREE, list_files, list_folder
from pointpeft.data.prepare import InputTransform, Prepared, default_num_stored
from pointpeft.data.reading import RawShape
from pointpeft.data.splits import Item, Listing, assign_splits, check_classes, check_copies
from pointpeft.data.statistics import InputStatistics
from pointpeft.errors import DataError

__all__ = [
    "EMBEDDED_NAME",
    "Problem",
    "ShapeData",
    "ShapeSplit",
    "UnlabelledShapes",
    "load_shapes",
    "load_unlabelled",
]

EMBEDDED_NAME = "homeobjects"
"""The data set that comes with the package."""

OnError = Literal["skip", "refuse"]
Progress = Callable[[int, int], None]

_BATCH = 32
"""Shapes read and put in farthest point order together."""
_LISTED = 5
"""Items named in a note or message before it says how many more there are."""


@dataclass(frozen=True)
class Problem:
    """An item that cannot be used, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class ShapeSplit:
    """Prepared shapes of one part of a data set.

    Attributes:
        points: `(S, N, 3)` float32, y up, each cloud in farthest point order.
        labels: `(S,)` int64, places in the class names; -1 without a label.
        ids: Item names.
    """

    points: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ShapeSplit":
        """The shapes at `indices`, in that order; a mask `(S,)` of bool serves too."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        ids = tuple(self.ids[place] for place in chosen)
        return ShapeSplit(self.points[chosen], self.labels[chosen], ids)


@dataclass(frozen=True)
class UnlabelledShapes(ShapeSplit):
    """Shapes for pre-training, with what was noticed while they were read."""

    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class ShapeData:
    """A labelled data set in its parts.

    Attributes:
        class_names: In label order.
        train: To fit on.
        val: To choose settings and checkpoints by.
        test: To measure once.
        unlabelled: Shapes without a class, often none.
        transform: How the shapes were prepared.
        statistics: Of the raw training shapes; None without any.
        notes: What was decided or noticed.
        problems: Items left out because they cannot be used.
    """

    class_names: tuple[str, ...]
    train: ShapeSplit
    val: ShapeSplit
    test: ShapeSplit
    unlabelled: ShapeSplit
    transform: InputTransform
    statistics: InputStatistics | None
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def load_shapes(
    source: str | Path,
    transform: InputTransform = InputTransform(),  # noqa: B008 - frozen
    *,
    num_stored: int | None = None,
    on_error: OnError = "skip",
    val_fraction: float = 0.2,
    needed: Sequence[str] = ("test", "val"),
    seed: int = 0,
    cache_dir: Path | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ShapeData:
    """Load a data set with classes.

    Args:
        source: "homeobjects", a folder of meshes or scans, or an `.npz` of clouds.
        transform: How to prepare each shape.
        num_stored: Points kept of each shape; by default twice what the model sees, but not more
            than an `.npz` holds.
        on_error: Whether items that cannot be used are left out and reported, or refused.
        val_fraction: Part of train that a missing validation or test part is cut from, in [0, 1).
        needed: Parts that are cut when they are missing.
        seed: Of surface sampling and of cuts.
        cache_dir: Where prepared clouds are kept; see `default_cache_dir`.
        class_names: Fixes the label order, for data that an existing model is measured on. Then a
            class may lack training shapes, and one that is not among them is refused.
        progress: Called with the number of shapes done and their total.

    Raises:
        DataError: The source is missing or not in an expected form, no item is usable, a class has
            nothing to train on, or `on_error="refuse"` and an item is bad.
    """
    listing = _list_source(source, labelled=True)
    names = _fix_classes(listing, class_names)
    loader = _Loader(transform, _num_stored(listing, transform, num_stored), seed, cache_dir)
    loaded = loader.load(listing, source, on_error, progress)
    items, split_notes = assign_splits(loaded.items, val_fraction, seed, needed)
    class_notes = check_classes(items, names, need_train=class_names is None)
    class_notes += check_copies(items, loaded.digests)
    parts = {
        part: _gather(items, loaded, part, names) for part in ("train", "val", "test", "unlabelled")
    }
    return ShapeData(
        class_names=names,
        **parts,
        transform=transform,
        statistics=_statistics(items, loaded),
        notes=(*listing.notes, *loaded.notes, *split_notes, *class_notes),
        problems=loaded.problems,
    )


def load_unlabelled(
    source: str | Path,
    transform: InputTransform = InputTransform(),  # noqa: B008 - frozen
    *,
    num_stored: int | None = None,
    on_error: OnError = "skip",
    seed: int = 0,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> UnlabelledShapes:
    """Load shapes for pre-training, whatever their classes.

    Shapes that the source states to be for validation or testing are left out. A source without
    stated parts is used whole.

    Args:
        source: "homeobjects", a folder of files, flat or nested, or an `.npz` with `points`.
        transform: How to prepare each shape.
        num_stored: As for `load_shapes`.
        on_error: As for `load_shapes`.
        seed: Of surface sampling.
        cache_dir: As for `load_shapes`.
        progress: Called with the number of shapes done and their total.

    Raises:
        DataError: As for `load_shapes`.
    """
    listing = _list_source(source, labelled=False)
    kept = tuple(item for item in listing.items if item.split not in ("val", "test"))
    notes = list(listing.notes)
    if len(kept) < len(listing.items):
        notes.append(f"{len(listing.items) - len(kept)} validation and test shapes left out")
    if not kept:
        raise DataError(f"{source}: all shapes are for validation or testing, none to train on")
    listing = Listing(kept, (), listing.stored_points)
    loader = _Loader(transform, _num_stored(listing, transform, num_stored), seed, cache_dir)
    loaded = loader.load(listing, source, on_error, progress)
    return UnlabelledShapes(
        points=np.stack([one.points for one in loaded.prepared]),
        labels=np.full(len(loaded.items), -1, dtype=np.int64),
        ids=tuple(item.id for item in loaded.items),
        notes=(*notes, *loaded.notes),
        problems=loaded.problems,
    )


# Sources -----------------------------------------------------------------------------------------


def _list_source(source: str | Path, *, labelled: bool) -> Listing:
    if str(source) == EMBEDDED_NAME:
        return list_embedded(labelled=labelled)
    path = Path(source).expanduser()
    if path.is_dir():
        return list_folder(path) if labelled else list_files(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return list_archive(path, labelled=labelled)
    seen = "not a folder or .npz" if path.exists() else "no such folder or file"
    raise DataError(f"{path}: {seen}; give {EMBEDDED_NAME!r}, an .npz or a folder, {EXPECTED_TREE}")


def _fix_classes(listing: Listing, class_names: Sequence[str] | None) -> tuple[str, ...]:
    if class_names is None:
        return listing.class_names
    unknown = [name for name in listing.class_names if name not in set(class_names)]
    if unknown:
        raise DataError(
            f"classes {', '.join(unknown)} of the data are unknown to the model, "
            f"which knows {', '.join(class_names)}"
        )
    return tuple(class_names)


def _num_stored(listing: Listing, transform: InputTransform, num_stored: int | None) -> int:
    """Asked for, or the default, which for arrays is no more than they hold."""
    chosen = default_num_stored(transform, num_stored)
    if num_stored is None and listing.stored_points is not None:
        return max(transform.num_points, min(chosen, listing.stored_points))
    return chosen


# Loading -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loaded:
    """Usable items with their prepared clouds, in the order of the listing."""

    items: tuple[Item, ...]
    prepared: tuple[Prepared, ...]
    digests: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


class _Loader:
    """Reads and prepares items in batches, through the cache."""

    def __init__(
        self, transform: InputTransform, num_stored: int, seed: int, cache_dir: Path | None
    ) -> None:
        self._transform = transform
        self._num_stored = num_stored
        self._seed = seed
        self._cache = PreparedCache(cache_dir, transform, num_stored, seed)

    def load(
        self, listing: Listing, source: str | Path, on_error: OnError, progress: Progress | None
    ) -> _Loaded:
        """All usable items of the listing."""
        if on_error not in get_args(OnError):
            raise DataError(f"on_error={on_error!r}: expected 'skip' or 'refuse'")
        items, prepared, digests, problems = [], [], [], []
        for done, (item, digest, result) in enumerate(self._results(listing.items), start=1):
            if isinstance(result, Prepared):
                items.append(item)
                prepared.append(result)
                digests.append(digest)
            else:
                problems.append(Problem(item.id, str(result).removeprefix(f"{item.origin}: ")))
            if progress is not None:
                progress(done, len(listing.items))
        if problems and (on_error == "refuse" or not items):
            raise DataError(_refusal(source, problems, all_bad=not items))
        notes = (*_item_notes(items, prepared), *self._cache.notes)
        return _Loaded(tuple(items), tuple(prepared), tuple(digests), notes, tuple(problems))

    def _results(self, items: Sequence[Item]) -> Iterator[tuple[Item, str, Prepared | Exception]]:
        """Each item with the hash of its content and its prepared form or its error."""
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            yield from zip(batch, *self._prepare(batch), strict=True)

    def _prepare(self, batch: Sequence[Item]) -> tuple[list[str], list[Prepared | Exception]]:
        digests: list[str] = [""] * len(batch)
        results: dict[int, Prepared | Exception] = {}
        raw: dict[int, RawShape] = {}
        for place, item in enumerate(batch):
            try:
                digests[place] = item.digest()
                kept = self._cache.get(digests[place])
                if kept is None:
                    raw[place] = item.read()
                else:
                    results[place] = kept
            except (DataError, OSError) as error:
                results[place] = error
        made = self._transform.prepare_batch(list(raw.values()), self._num_stored, self._seed)
        for place, result in zip(raw, made, strict=True):
            results[place] = result
            if isinstance(result, Prepared):
                self._cache.put(digests[place], result)
        return digests, [results[place] for place in range(len(batch))]


def _refusal(source: str | Path, problems: Sequence[Problem], *, all_bad: bool) -> str:
    listed = "\n".join(f"  {problem.item}: {problem.reason}" for problem in problems)
    what = "no usable shape" if all_bad else f"{len(problems)} unusable shapes"
    return f"{source}: {what}\n{listed}"


def _item_notes(items: Sequence[Item], prepared: Sequence[Prepared]) -> list[str]:
    """The notes of single items, one line for all that share a text."""
    by_note: dict[str, list[str]] = {}
    for item, one in zip(items, prepared, strict=True):
        for note in one.notes:
            by_note.setdefault(note, []).append(item.id)
    return [f"{_some(ids)}: {note}" for note, ids in by_note.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _gather(items: Sequence[Item], loaded: _Loaded, part: str, names: Sequence[str]) -> ShapeSplit:
    chosen = [place for place, item in enumerate(items) if item.split == part]
    number = {name: label for label, name in enumerate(names)}
    labels = [number.get(items[place].class_name or "", -1) for place in chosen]
    clouds = [loaded.prepared[place].points for place in chosen]
    empty = np.empty((0, *loaded.prepared[0].points.shape), dtype=np.float32)
    return ShapeSplit(
        points=np.stack(clouds) if clouds else empty,
        labels=np.array(labels, dtype=np.int64),
        ids=tuple(items[place].id for place in chosen),
    )


def _statistics(items: Sequence[Item], loaded: _Loaded) -> InputStatistics | None:
    pairs = zip(items, loaded.prepared, strict=True)
    train = [prepared for item, prepared in pairs if item.split == "train"]
    if not train:
        return None
    return InputStatistics.from_raw(
        [one.raw_count for one in train],
        [one.raw_radius for one in train],
        np.stack([one.points for one in train]),
    )
