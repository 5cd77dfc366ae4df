"""The parts of ``make_mechparts.py``: what is built, and on which side of the split it lies.

A *series* is what stays together: the sizes of one standard, a run of neighbouring sizes of it with
all their lengths, a pressure class, a pipe schedule, a dimension series of bearings, a band of
tooth counts. Every series lies in one part of the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

SPLITS = ("train", "val", "test")
SHARES = (0.58, 0.14, 0.28)  # of the sizes of a class that has a single standard
# Shapes of a class, by how long the kernel takes for one.
FAST = {"train": 72, "val": 16, "test": 58}
USUAL = {"train": 26, "val": 5, "test": 15}
SLOW = {"train": 22, "val": 4, "test": 12}

# ISO 888, in mm.
LENGTHS = np.array([
    2, 2.5, 3, 4, 5, 6, 8, 10, 12, 14, 16,
    *range(20, 71, 5), *range(80, 161, 10), *range(180, 501, 20),
], dtype=float)  # fmt: skip
# Lengths in diameters. Those of the test parts lie between those of the training parts.
RATIOS = {
    split: np.geomspace(1.3, 10, 2 * 9 + 1)[start::2]
    for split, start in (("train", 0), ("val", 0), ("test", 1))
}
THREADS = ("cosmetic", "right-hand", "left-hand")  # whether and how the thread of a nut is cut


@dataclass(frozen=True)
class Part:
    """A part that can be built; `make` returns a shape of build123d, z up."""

    class_name: str
    split: str
    series: str
    size: str
    make: Callable[[], Any]

    @property
    def id(self) -> str:
        """What the part is called; it also seeds its sampling."""
        return f"{self.class_name}/{self.series}/{self.size}"


Dealt = list[tuple[str, str, Any]]
"""Part of the split, series and size."""


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spread over their order."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def deal(standard: str, sizes: Sequence[Any], shares: Sequence[float] = SHARES) -> Dealt:
    """Cut the sizes of a standard, in their order, into one run for each part of the split."""
    ends = np.rint(np.cumsum(shares) / sum(shares) * len(sizes)).astype(int)
    dealt: Dealt = []
    for split, start, end in zip(SPLITS, (0, *ends[:-1]), ends, strict=False):
        if run := list(sizes[start:end]):
            name = standard if end - start == len(sizes) else f"{standard} {run[0]} to {run[-1]}"
            dealt += [(split, name, size) for size in run]
    return dealt


def by_standard(
    sizes_of: Callable[[str], Sequence[Any]], train: Sequence[str], test: Sequence[str]
) -> Dealt:
    """Whole standards for testing; the others give the last fifth of their sizes to val."""
    dealt = [row for name in train for row in deal(name, sizes_of(name), (0.8, 0.2))]
    return dealt + [("test", name, size) for name in test for size in sizes_of(name)]


def diameter(size: str) -> float:
    """Nominal diameter in mm of a metric, numbered or inch thread size, such as "M6-1"."""
    name = size.split("-")[0]
    if name.startswith("M"):
        return float(name[1:])
    if name.startswith("#"):
        return 25.4 * (0.06 + 0.013 * int(name[1:]))
    return 25.4 * float(sum(Fraction(term) for term in name.split()))


def with_lengths(dealt: Dealt, diameter_of: Callable[[Any], float] = diameter) -> Dealt:
    """Every size with standard lengths from 1.3 to 10 diameters."""
    rows: Dealt = []
    for split, series, size in dealt:
        wanted = RATIOS[split] * diameter_of(size)
        lengths = LENGTHS[np.abs(np.log(LENGTHS / wanted[:, None])).argmin(axis=1)]
        rows += [(split, series, (size, length)) for length in np.unique(lengths).tolist()]
    return rows


def parts(
    class_name: str,
    dealt: Dealt,
    make: Callable[[str, Any], Any],
    most_of: Mapping[str, int] = USUAL,
) -> list[Part]:
    """The parts of a class: so many of its rows as are built, evenly spread."""
    chosen: list[Part] = []
    for split, most in most_of.items():
        rows = [(series, size) for part, series, size in dealt if part == split]
        chosen += [
            Part(class_name, split, series, size_text(size), partial(make, series, size))
            for series, size in spread(rows, most)
        ]
    return chosen


def size_text(size: Any) -> str:
    """A size in words: "M6-1 x 30"."""
    if isinstance(size, tuple):
        return " x ".join(size_text(one) for one in size)
    return f"{size:g}" if isinstance(size, float) else str(size)


def standard_of(series: str) -> str:
    """The standard that a series of `deal` and `by_standard` belongs to."""
    return series.split(" ")[0]


def product(dealt: Dealt, *factors: Iterable[Any]) -> Dealt:
    """Every row with every value of each factor behind its size."""
    for factor in factors:
        values = list(factor)
        dealt = [
            (split, series, (*(size if isinstance(size, tuple) else (size,)), value))
            for split, series, size in dealt
            for value in values
        ]
    return dealt
