"""Part labels of points: what form they have, and which parts belong to which category."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.errors import DataError

__all__ = [
    "EXPECTED_PARTS",
    "PART_NAMES",
    "PartTable",
    "as_part_labels",
    "check_part_names",
    "find_parts",
    "read_part_names",
]

PART_NAMES = "parts.txt"
"""File of a data folder that names its parts, one a line, in label order."""
EXPECTED_PARTS = (
    "part labels are read from an .npz data set with seg (S, N) and parts (names), or from files "
    "in class folders: text 'x y z [nx ny nz] part', .npz with points and seg, or .ply with a "
    "vertex property part, label or segmentation"
)

_LARGEST_LABEL = 9999
"""More parts than that are a column that means something else: an intensity, a time."""


@dataclass(frozen=True)
class PartTable:
    """The parts of a data set, and which of them each category has.

    Attributes:
        names: In label order.
        categories: Ascending part labels of each category, by its name, in class order; several
            categories may share a part.
    """

    names: tuple[str, ...]
    categories: Mapping[str, tuple[int, ...]]

    def fit(self, seg: np.ndarray, category: str, names: Sequence[str] = ()) -> np.ndarray:
        """The part labels of a shape as this table numbers them.

        Args:
            seg: Part labels `(N,)`, not negative.
            category: What the shape is.
            names: What the labels stand for; by default what they stand for here.

        Returns:
            Labels `(N,)` int64.

        Raises:
            DataError: A label has no name, or its part is none of the category's.
        """
        own = self.names if not names or tuple(names) == self.names else tuple(names)
        found = np.unique(seg)
        if found[-1] >= len(own):
            raise DataError(f"part {found[-1]}, but parts are numbered 0 to {len(own) - 1}")
        number = {name: label for label, name in enumerate(self.names)}
        renumber = np.array([number.get(name, -1) for name in own], dtype=np.int64)
        parts = self.categories[category]
        strange = [own[label] for label in found if renumber[label] not in parts]
        if strange:
            known = ", ".join(self.names[part] for part in parts)
            raise DataError(f"{', '.join(strange)}: not among the parts of {category}: {known}")
        return renumber[seg]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        categories = {name: list(parts) for name, parts in self.categories.items()}
        return {"names": list(self.names), "categories": categories}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PartTable":
        """From what `to_dict` gave.

        Raises:
            DataError: Names or categories are missing, or a category has a part without a name.
        """
        try:
            names = tuple(str(name) for name in values["names"])
            categories = {
                str(name): tuple(int(part) for part in parts)
                for name, parts in values["categories"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"part table: expected names and categories ({error!r})") from error
        listed = {part for parts in categories.values() for part in parts}
        if not listed or not listed <= set(range(len(names))):
            raise DataError(f"part table: parts {sorted(listed)}, but {len(names)} names")
        return cls(names, categories)


def find_parts(
    names: Sequence[str],
    class_names: Sequence[str],
    shapes: Iterable[tuple[str, np.ndarray]],
) -> PartTable:
    """Which parts there are and which category has which.

    Names of the form "Category/part" say it if every category has some; otherwise a category has
    the parts that its training shapes have.

    Args:
        names: Of the parts, in label order; may be empty, then they are called "part 0" and so on.
        class_names: The categories, in label order.
        shapes: Category and part labels `(N,)` of every training shape.
    """
    seen: dict[str, set[int]] = {name: set() for name in class_names}
    for category, seg in shapes:
        seen[category].update(np.unique(seg).tolist())
    if not names:
        highest = max(set().union(*seen.values()), default=-1)
        names = [f"part {label}" for label in range(highest + 1)]
    labels = range(len(names))
    parts_of = {
        category: tuple(label for label in labels if names[label].startswith(f"{category}/"))
        for category in class_names
    }
    if not all(parts_of.values()):
        parts_of = {name: tuple(sorted(parts & set(labels))) for name, parts in seen.items()}
    return PartTable(tuple(names), parts_of)


def as_part_labels(values: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Part labels as int64.

    Args:
        values: One whole number per point, of any numeric type.
        shape: What `values` must be of.
        name: What a message calls them.

    Raises:
        DataError: Another shape, or anything but whole numbers from 0 to 9999.
    """
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise DataError(f"{name} {values.shape} of {values.dtype}: expected numbers {shape}")
    with np.errstate(invalid="ignore"):  # NaN becomes some number, and differs from it
        labels = values.astype(np.int64)
    odd = values[(labels != values) | (labels < 0) | (labels > _LARGEST_LABEL)]
    if odd.size:
        raise DataError(
            f"{name} hold {odd[0]}: expected whole numbers from 0 to {_LARGEST_LABEL}; "
            f"{EXPECTED_PARTS}"
        )
    return labels


def read_part_names(path: Path) -> tuple[str, ...]:
    """Part names of a text file, one a line; none without such a file.

    Raises:
        DataError: It is no text, or a name is missing or occurs twice.
    """
    if not path.is_file():
        return ()
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").strip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file; expected one part name a line") from error
    check_part_names(names, str(path))
    return tuple(names)


def check_part_names(names: Sequence[str], origin: str) -> None:
    """Refuse part names of `origin` that are empty or not distinct."""
    if not names or not all(names):
        raise DataError(f"{origin}: a part without a name; expected one for every label from 0 on")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{origin}: part names {', '.join(twice)} occur more than once")
