"""Read and prepare the items of a listing, and tell apart the ones that cannot be used."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np

from pointpeft.data.cache import PreparedCache, geometry_digest, short_digest
from pointpeft.data.parts import EXPECTED_PARTS, PartTable, find_parts
from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.data.reading import RawShape
from pointpeft.data.splits import Item, Listing
from pointpeft.errors import DataError
from pointpeft.formats import enumerate_names

__all__ = [
    "Loaded",
    "Loader",
    "OnError",
    "Problem",
    "Progress",
    "fit_parts",
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
"""Items named in a note or message before it says how many more there are."""


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
        digests: What `geometry_digest` gives of each in its raw form.
        notes: What the user should know.
        problems: Items left out because they cannot be used.
    """

    items: tuple[Item, ...]
    prepared: tuple[Prepared, ...]
    digests: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def objects(self) -> tuple[str, ...]:
        """Hashes of what the objects of a benchmark data set are called; empty for other data."""
        names = [item.object_id for item in self.items]
        return tuple(map(short_digest, filter(None, names))) if all(names) else ()


class Loader:
    """Reads and prepares items in batches, through the cache.

    Args:
        transform: How to prepare each shape.
        num_stored: Points kept of each shape.
        seed: Of surface sampling.
        cache_dir: Where prepared clouds are kept; None: the default folder.
        segmented: Whether shapes come with part labels.
    """

    def __init__(
        self,
        transform: InputTransform,
        num_stored: int,
        seed: int,
        cache_dir: Path | None,
        segmented: bool = False,
    ) -> None:
        self._transform = transform
        self._num_stored = num_stored
        self._seed = seed
        self._cache = PreparedCache(cache_dir, transform, num_stored, seed, segmented)

    def load(
        self, listing: Listing, source: str | Path, on_error: OnError, progress: Progress | None
    ) -> Loaded:
        """All usable items of the listing.

        Raises:
            DataError: None is usable, or `on_error` is "refuse" and one is not.
        """
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
        _check_enough(source, len(items), problems, on_error)
        notes = (*_item_notes(items, prepared), *self._cache.notes)
        return Loaded(tuple(items), tuple(prepared), tuple(digests), notes, tuple(problems))

    def _results(self, items: Sequence[Item]) -> Iterator[tuple[Item, str, Prepared | Exception]]:
        """Each item with its identity and its prepared form or its error."""
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            yield from zip(batch, *self._prepare(batch), strict=True)

    def _prepare(self, batch: Sequence[Item]) -> tuple[list[str], list[Prepared | Exception]]:
        digests: list[str] = [""] * len(batch)
        results: dict[int, Prepared | Exception] = {}
        keys: list[str] = [""] * len(batch)
        raw: dict[int, RawShape] = {}
        for place, item in enumerate(batch):
            try:
                keys[place] = item.digest() + item.label_digest()
                kept = self._cache.get(keys[place])
                if kept is None:
                    raw[place] = item.read()
                    digests[place] = geometry_digest(raw[place].points, raw[place].faces)
                else:
                    results[place], digests[place] = kept
            except (DataError, OSError) as error:
                results[place] = error
        made = self._transform.prepare_batch(list(raw.values()), self._num_stored, self._seed)
        for place, result in zip(raw, made, strict=True):
            results[place] = result
            if isinstance(result, Prepared):
                self._cache.put(keys[place], result, digests[place])
        return digests, [results[place] for place in range(len(batch))]


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
    shapes = [
        (str(item.class_name), np.asarray(one.seg), item)
        for item, one in zip(loaded.items, loaded.prepared, strict=True)
    ]
    notes = loaded.notes
    if table is None:
        to_train = [(name, seg) for name, seg, item in shapes if item.split in (None, "train")]
        table = find_parts(part_names, class_names, to_train)
        notes = notes if part_names else (*notes, _part_note(table))
    fitting: dict[int, Prepared] = {}
    problems = []
    for place, (name, seg, item) in enumerate(shapes):
        try:
            seg = table.fit(seg, name, part_names)
            fitting[place] = replace(loaded.prepared[place], seg=seg)
        except DataError as error:
            problems.append(Problem(item.id, str(error)))
    _check_enough(source, len(fitting), problems, on_error)
    fitted = Loaded(
        items=tuple(loaded.items[place] for place in fitting),
        prepared=tuple(fitting.values()),
        digests=tuple(loaded.digests[place] for place in fitting),
        notes=notes,
        problems=(*loaded.problems, *problems),
    )
    return fitted, table


def _part_note(table: PartTable) -> str:
    each = (f"{name} {', '.join(map(str, parts))}" for name, parts in table.categories.items())
    return f"part labels without names, by category: {'; '.join(each)}"


def _check_enough(
    source: str | Path, usable: int, problems: Sequence[Problem], on_error: OnError
) -> None:
    """Refuse problems where they are not to be skipped, or where nothing is left."""
    if problems and (on_error == "refuse" or not usable):
        listed = "\n".join(f"  {problem.item}: {problem.reason}" for problem in problems)
        what = f"{len(problems)} unusable shapes" if usable else "no usable shape"
        raise DataError(f"{source}: {what}\n{listed}")


def _item_notes(items: Sequence[Item], prepared: Sequence[Prepared]) -> list[str]:
    """The notes of single items, one line for all that share a text."""
    by_note: dict[str, list[str]] = {}
    for item, one in zip(items, prepared, strict=True):
        for note in one.notes:
            by_note.setdefault(note, []).append(item.id)
    return [f"{enumerate_names(ids)}: {note}" for note, ids in by_note.items()]
