"""Whether two methods that were measured on the same shapes differ beyond chance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["holm", "paired_p_value"]

_CHUNK = 500  # draws at a time
_SAME = 2e-6  # shares that differ by less are equal: results keep six digits


def paired_p_value(
    first: Sequence[float] | NDArray, second: Sequence[float] | NDArray,
    draws: int = 10_000, seed: int = 0,
) -> float:  # fmt: skip
    """The p-value of a paired permutation test of equal means, two-sided.

    If both are equally good, each shape could as well have had its two values the other way round.
    So the signs of the differences are drawn at random, again and again: the p-value is the share
    of draws whose mean difference is at least as large as the one that was found, which counts as a
    draw itself.

    Args:
        first: of each shape how often it was right, 0 to 1, ``(S,)``.
        second: the same of the other method, in the same order.
        draws: how many.
        seed: of the draws.

    Returns:
        Above 0, up to 1.

    Raises:
        ValueError: not the same number of shapes.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values: the shapes must be the same")
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[np.abs(difference) > _SAME]  # a sign changes nothing of the others
    generator, reached = np.random.default_rng(seed), 0
    found = abs(difference.sum()) - _SAME * len(difference)
    for begin in range(0, draws, _CHUNK):
        size = (min(_CHUNK, draws - begin), len(difference))
        signs = 2.0 * generator.integers(0, 2, size, dtype=np.int8) - 1
        reached += int((np.abs(signs @ difference) >= found).sum())
    return (1 + reached) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down method: of all tests, the chance of one false finding.

    In the order given, 0 to 1.
    """
    number, largest = len(p_values), 0.0
    adjusted = [0.0] * number
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (number - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
