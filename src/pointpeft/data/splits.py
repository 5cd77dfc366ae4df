"""The items of a data set and the part (train, val, test) each of them belongs to."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointpeft.data.cache import short_digest
from pointpeft.data.parts import as_part_labels
from pointpeft.data.reading import RawShape, clean_shape, companion_files, read_shape
from pointpeft.errors import DataError
from pointpeft.formats import counted, enumerate_names

__all__ = [
    "Item",
    "Listing",
    "assign_splits",
    "canonical_split",
    "check_classes",
    "class_spelling",
    "cut_parts",
    "leave_out_copies",
    "left_to_train",
]

_SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "unlabelled": "unlabelled", "unlabeled": "unlabelled",
}  # fmt: skip
_BLOCK = 1 << 20
"""Bytes of a file that are hashed at once."""
_FEWEST_TO_SPLIT = 3
"""A class with at least this many shapes gives one to a part that is cut from it."""


@dataclass(frozen=True)
class Item:
    """One shape of a data set, not read yet.

    Attributes:
        id: Its name within the set, unique.
        class_name: None when it has no label.
        split: "train", "val", "test" or "unlabelled" as the set states it, else None.
        origin: A file, or the points `(N, 3)` themselves.
        seg: Part labels `(N,)` of points that are given themselves, if there are any.
        segmented: Whether the shape is read with its part labels.
        object_id: What the object is called in all variants of a benchmark data set, which hold
            it in different forms.
    """

    id: str
    class_name: str | None
    split: str | None
    origin: Path | np.ndarray
    seg: np.ndarray | None = None
    segmented: bool = False
    object_id: str | None = None

    def digest(self) -> str:
        """Hash of everything the shape is read from; another kind of file has another one."""
        labels = ""
        if self.segmented and self.seg is not None:
            content = np.ascontiguousarray(self.seg, dtype="<i8")
            labels = hashlib.sha256(content.tobytes()).hexdigest()
        if isinstance(self.origin, np.ndarray):
            digest = hashlib.sha256(self.origin.dtype.str.encode() + self.origin.tobytes())
            return digest.hexdigest() + labels
        if not self.origin.is_file():  # a pipe has no end
            raise DataError(f"{self.origin}: no file that can be read")
        digest = hashlib.sha256(self.origin.suffix.lower().encode())
        for path in (self.origin, *companion_files(self.origin)):
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest() + labels

    def read(self) -> RawShape:
        """The shape itself; raises `DataError` when it cannot be read."""
        if isinstance(self.origin, np.ndarray):
            seg = None
            if self.segmented and self.seg is not None:
                seg = as_part_labels(self.seg, (len(self.origin),), "part labels")
            return clean_shape(RawShape(self.origin, None, self.id, seg=seg))
        return read_shape(self.origin, self.segmented)


@dataclass(frozen=True)
class Listing:
    """What a data set holds, before any shape is read.

    Attributes:
        items: In a fixed order.
        class_names: In label order.
        stored_points: Most points of a shape, where that is known without reading them.
        notes: What the user should know.
        part_names: In label order; empty where part labels have no names, or where there are none.
        title: By which people know a benchmark data set; None for others.
        family: Of that data set, see `BenchmarkDataset.family`; None for others.
    """

    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    stored_points: int | None = None
    notes: tuple[str, ...] = ()
    part_names: tuple[str, ...] = ()
    title: str | None = None
    family: str | None = None


def canonical_split(name: str) -> str | None:
    """ "train", "val", "test" or "unlabelled" for one of their spellings, else None."""
    return _SPLIT_NAMES.get(name.lower())


def class_spelling(name: object) -> str:
    """The one spelling of a class name: text, also of bytes, with letters and accents composed.

    A folder that comes from macOS may spell an accented letter in two characters.
    """
    text = name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name)
    return unicodedata.normalize("NFC", text)


def assign_splits(
    items: Sequence[Item],
    digests: Sequence[str],
    val_fraction: float,
    seed: int,
    needed: Sequence[str] = ("test", "val"),
) -> tuple[list[Item], list[str]]:
    """Give every item a part.

    Stated parts are kept. A missing test part is cut from train, then a missing validation part
    is; both are stratified: the fraction of every class, at least one shape of a class with three
    or more, never its last one. The choice in a class depends on the content of its shapes alone:
    not on their names, on the other classes or on who cuts. Copies of a shape stay together.

    Args:
        items: Usable items.
        digests: Hash of the content of each.
        val_fraction: Part of train that a cut takes, in [0, 1).
        seed: Of the random choice.
        needed: Parts that are cut when they are missing.

    Returns:
        The items, each with a part, and notes on what was decided.

    Raises:
        DataError: `val_fraction` is out of range.
    """
    if not 0 <= val_fraction < 1:
        raise DataError(f"val_fraction={val_fraction}: expected at least 0 and below 1")
    stated = {item.split for item in items} & {"train", "val", "test"}
    result, notes = [], []
    for item in items:
        split = "unlabelled" if item.class_name is None else item.split or "train"
        result.append(replace(item, split=split))
    unstated = [item for item in items if item.class_name is not None and item.split is None]
    if stated and unstated:
        notes.append(
            f"{len(unstated)} shapes without a stated part, beside others with one: to train"
        )
    sizes = Counter(item.class_name for item in result if item.split == "train")
    for part in needed:
        if part not in stated and val_fraction > 0:
            result, moved = _cut(result, digests, part, val_fraction, seed, sizes)
            if moved:
                notes.append(f"no {part} part given: {moved} shapes cut from train, by class")
    return result, notes


def check_classes(
    items: Sequence[Item], class_names: Sequence[str], *, need_train: bool
) -> list[str]:
    """Notes on classes that cannot be measured.

    Raises:
        DataError: A class has no training shape although `need_train`.
    """
    counts = Counter((item.class_name, item.split) for item in items)
    untrained = [name for name in class_names if not counts[name, "train"]]
    if need_train and untrained:
        raise DataError(
            f"no usable training shape for {enumerate_names(untrained)}: add shapes of these "
            "classes to the training part, or take the classes out"
        )
    untested = [name for name in class_names if not counts[name, "test"]]
    if not untested or not any(item.split == "test" for item in items):
        return []
    return [f"no test shape, so accuracy cannot be measured for {enumerate_names(untested)}"]


def leave_out_copies(items: Sequence[Item], digests: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Take validation and test shapes out that would measure what is known already.

    These are copies of training shapes and, among test shapes, copies of validation shapes.

    Returns:
        The items, of which copies have no part, and notes: on copies, and on shapes that are in two
        classes.
    """
    used: dict[str, str] = {}
    result, copies = list(items), []
    notes = _in_two_classes(items, digests)
    for part in ("train", "val", "test"):
        places = [place for place, item in enumerate(items) if item.split == part]
        for place in places:
            if part != "train" and (twin := used.get(digests[place])) is not None:
                result[place] = replace(items[place], split=None)
                copies.append(f"{items[place].id} = {twin}")
        for place in places:
            used.setdefault(digests[place], items[place].id)
    if copies:
        what = "validation and test shapes are copies of others that are trained on or choose the"
        notes.append(f"{len(copies)} {what} epoch, and are left out: {enumerate_names(copies)}")
    return result, notes


def _in_two_classes(items: Sequence[Item], digests: Sequence[str]) -> list[str]:
    """A note on equal shapes whose classes differ, if there are any."""
    first: dict[str, Item] = {}
    twins = []
    for item, digest in zip(items, digests, strict=True):
        if item.class_name is None:
            continue
        other = first.setdefault(digest, item)
        if item.class_name != other.class_name:
            twins.append(f"{item.id} = {other.id}")
    if not twins:
        return []
    return [f"{counted(len(twins), 'shape')} in two classes: {enumerate_names(twins)}"]


def cut_parts(stated: Iterable[str | None]) -> tuple[str, ...]:
    """Parts that are cut from the training shapes of pre-training, by those that a set states.

    A stated test part is enough: what is cut for validation then only chooses epochs.
    """
    known = set(stated)
    return () if "test" in known else tuple(part for part in ("test", "val") if part not in known)


def left_to_train(
    items: Sequence[Item],
    digests: Sequence[str],
    val_fraction: float,
    seed: int,
    needed: Sequence[str],
) -> tuple[np.ndarray, list[str]]:
    """Which shapes pre-training may see: not those that fine-tuning keeps to measure on.

    Arguments are those of :func:`assign_splits`; for `needed` see :func:`cut_parts`.

    Returns:
        A mask `(S,)` of bool, in which copies of a shape are alike, and a note on those left out.
    """
    assigned, _ = assign_splits(items, digests, val_fraction, seed, needed)
    pairs = zip(assigned, digests, strict=True)
    held_out = {digest for item, digest in pairs if item.split in ("val", "test")}
    kept = np.array([digest not in held_out for digest in digests], dtype=bool)
    if kept.all():
        return kept, []
    return kept, [
        f"{int((~kept).sum())} shapes left out, which fine-tuning on this data with the same "
        "data.val_fraction and data.seed keeps for validation and testing"
    ]


def _cut(
    items: Sequence[Item],
    digests: Sequence[str],
    part: str,
    fraction: float,
    seed: int,
    sizes: Mapping[str | None, int],
) -> tuple[list[Item], int]:
    """Move a stratified fraction of train to `part`; also says how many were moved.

    A class whose train part had, before any cut, `sizes` enough gives at least one shape.
    """
    by_class: dict[str, list[int]] = defaultdict(list)
    ranks = [
        (short_digest(f"{seed}/{part}/{digest}"), item.id)
        for digest, item in zip(digests, items, strict=True)
    ]
    for place in sorted(range(len(items)), key=ranks.__getitem__):
        if items[place].split == "train":
            by_class[str(items[place].class_name)].append(place)
    result, moved = list(items), 0
    for name, places in by_class.items():
        least = 1 if sizes[name] >= _FEWEST_TO_SPLIT else 0
        number = min(max(least, int(fraction * len(places) + 0.5)), len(places) - 1)
        chosen = {digests[place] for place in places[:number]}
        with_copies = [place for place in places if digests[place] in chosen]
        if len(with_copies) == len(places):
            continue
        moved += len(with_copies)
        for place in with_copies:
            result[place] = replace(items[place], split=part)
    return result, moved
