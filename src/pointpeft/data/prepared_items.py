"""Read and prepare the items of a listing, and tell apart the ones that cannot be used."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np

from pointpeft.data.cache import PreparedCache, geometry_digest
from pointpeft.data.parts import EXPECTED_PARTS, PartTable, find_parts
from pointpeft.data.prepare import Prepared
from pointpeft.data.reading import RawShape
from pointpeft.data.splits import Item, Listing
from pointpeft.errors import DataError
from pointpeft.formats import enumerate_names

__all__ = [
    "Loaded",
    "OnError",
    "Problem",
    "Progress",
    "fit_parts",
    "item_notes",
    "load_items",
    "prepared_items",
    "problem_lines",
    "reported",
    "with_parts",
]

ShapeT = TypeVar("ShapeT")

OnError = Literal["skip", "refuse"]
"""What becomes of unusable items: left out and listed, or the end of reading."""
Progress = Callable[[int, int], None]
"""Called with how many items are read, and how many there are."""

_BATCH = 32
"""Shapes read and put in farthest point order together."""


@dataclass(frozen=True)
class Problem:
    """An item that cannot be used, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """Usable items with their prepared clouds, in the order of the listing.

    Attributes:
        items: One per usable shape.
        prepared: The shapes.
        notes: What the user should know.
        problems: Items left out because they cannot be used.
    """

    items: tuple[Item, ...]
    prepared: tuple[Prepared, ...]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def digests(self) -> list[str]:
        """What `geometry_digest` gives of each shape in its raw form."""
        return [one.digest for one in self.prepared]


def load_items(
    listing: Listing,
    cache: PreparedCache,
    source: str | Path,
    on_error: OnError,
    progress: Progress | None,
) -> Loaded:
    """Read and prepare the items of a listing in batches, as and through `cache`.

    Raises:
        DataError: None is usable, or `on_error` is "refuse" and one is not.
    """
    if on_error not in get_args(OnError):
        raise DataError(f"on_error={on_error!r}: expected 'skip' or 'refuse'")
    items, prepared, problems = [], [], []
    results = prepared_items(listing.items, cache)
    for item, result in reported(results, len(listing.items), progress):
        if isinstance(result, Prepared):
            items.append(item)
            prepared.append(result)
        else:
            problems.append(Problem(item.id, str(result).removeprefix(f"{item.origin}: ")))
    _check_enough(source, len(items), problems, on_error)
    own = ((item.id, one.notes) for item, one in zip(items, prepared, strict=True))
    notes = (*item_notes(own), *cache.notes)
    return Loaded(tuple(items), tuple(prepared), notes, tuple(problems))


def prepared_items(
    items: Sequence[Item], cache: PreparedCache
) -> Iterator[tuple[Item, Prepared | Exception]]:
    """Each item with its prepared form or its error; few of them are in memory at a time."""
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        yield from zip(batch, _prepare(batch, cache), strict=True)


def _prepare(batch: Sequence[Item], cache: PreparedCache) -> list[Prepared | Exception]:
    results: dict[int, Prepared | Exception] = {}
    raw: dict[int, tuple[str, RawShape]] = {}
    for place, item in enumerate(batch):
        try:
            key = item.digest()
            if kept := cache.get(key):
                results[place] = kept
            else:
                raw[place] = key, item.read()
        except (DataError, OSError) as error:
            results[place] = error
    shapes = [shape for _, shape in raw.values()]
    made = cache.transform.prepare_batch(shapes, cache.num_stored, cache.seed)
    for (place, (key, shape)), result in zip(raw.items(), made, strict=True):
        if isinstance(result, Prepared):
            result = replace(result, digest=geometry_digest(shape.points, shape.faces))
            cache.put(key, result)
        results[place] = result
    return [results[place] for place in range(len(batch))]


def reported(shapes: Iterable[ShapeT], total: int, progress: Progress | None) -> Iterator[ShapeT]:
    """The same shapes, `total` of them; `progress` is called after each."""
    for done, shape in enumerate(shapes, start=1):
        yield shape
        if progress is not None:
            progress(done, total)


def with_parts(listing: Listing, source: str | Path) -> Listing:
    """The shapes with a class of a listing, to be read with their part labels.

    Raises:
        DataError: The listing holds points in arrays, without part labels.
    """
    items = [replace(item, segmented=True) for item in listing.items if item.class_name is not None]
    if any(isinstance(item.origin, np.ndarray) and item.seg is None for item in items):
        raise DataError(f"{source} has no part labels; {EXPECTED_PARTS}")
    left_out = len(listing.items) - len(items)
    notes = (f"{left_out} shapes without a class left out",) if left_out else ()
    return replace(listing, items=tuple(items), notes=(*listing.notes, *notes))


def fit_parts(
    loaded: Loaded,
    part_names: Sequence[str],
    class_names: Sequence[str],
    table: PartTable | None,
    source: str | Path,
    on_error: OnError,
) -> tuple[Loaded, PartTable]:
    """The shapes whose parts are parts of their category, and the table that says which are.

    Args:
        loaded: Shapes with part labels.
        part_names: What these labels stand for; may be empty.
        class_names: The categories.
        table: If given, labels are changed to those that it has for the same names.
        source: What a message names.
        on_error: Whether other shapes are left out and reported, or refused.

    Raises:
        DataError: None of the shapes fits, or `on_error` is "refuse" and one does not.
    """
    pairs = list(zip(loaded.items, loaded.prepared, strict=True))
    notes = loaded.notes
    if table is None:
        to_train = [
            (str(item.class_name), np.asarray(one.seg))
            for item, one in pairs
            if item.split in (None, "train")
        ]
        table = find_parts(part_names, class_names, to_train)
        if not part_names:
            each = (f"{name} {', '.join(map(str, of))}" for name, of in table.categories.items())
            notes = (*notes, f"part labels without names, by category: {'; '.join(each)}")
    items, prepared, problems = [], [], []
    for item, one in pairs:
        try:
            seg = table.fit(np.asarray(one.seg), str(item.class_name), part_names)
        except DataError as error:
            problems.append(Problem(item.id, str(error)))
        else:
            items.append(item)
            prepared.append(replace(one, seg=seg))
    _check_enough(source, len(items), problems, on_error)
    return Loaded(tuple(items), tuple(prepared), notes, (*loaded.problems, *problems)), table


def _check_enough(
    source: str | Path, usable: int, problems: Sequence[Problem], on_error: OnError
) -> None:
    """Refuse problems where they are not to be skipped, or where nothing is left."""
    if problems and (on_error == "refuse" or not usable):
        what = f"{len(problems)} unusable shapes" if usable else "no usable shape"
        raise DataError(f"{source}: {what}\n{problem_lines(problems)}")


def problem_lines(problems: Sequence[Problem], most: int = 20) -> str:
    """A line for each of the first problems, and how many more there are."""
    lines = [f"  {problem.item}: {problem.reason}" for problem in problems[:most]]
    if len(problems) > most:
        lines.append(f"  and {len(problems) - most:,} more")
    return "\n".join(lines)


def item_notes(noted: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The notes of single items, given by their names, one line for all that share a text."""
    by_note: dict[str, list[str]] = {}
    for id, notes in noted:
        for note in notes:
            by_note.setdefault(note, []).append(id)
    return [f"{enumerate_names(ids)}: {note}" for note, ids in by_note.items()]
