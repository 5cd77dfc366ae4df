"""Whether two methods that were measured on the same shapes differ beyond chance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["holm", "paired_p_value", "paired_p_values"]

_CHUNK = 500  # draws at a time
_SAME = 2e-6  # shares that differ by less are equal: results keep six digits


def paired_p_value(
    first: Sequence[float] | NDArray, second: Sequence[float] | NDArray,
    draws: int = 20_000, seed: int = 0,
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
    return float(paired_p_values([first, second], draws, seed)[0])


def paired_p_values(
    scores: Sequence[Sequence[float] | NDArray], draws: int = 20_000, seed: int = 0
) -> NDArray:
    """Those of every two of M methods: ``(M (M - 1) / 2,)`` in the order 01, 02, ..., 12, ...

    Arguments and errors are those of :func:`paired_p_value`, ``scores`` of each method.
    """
    if len(sizes := {len(each) for each in scores}) > 1:
        raise ValueError(f"{sorted(sizes)} values: the shapes must be the same")
    values = np.asarray(scores, np.float64)
    one, other = np.triu_indices(len(values), k=1)
    difference = (values[one] - values[other]).T  # (S, pairs)
    difference[np.abs(difference) <= _SAME] = 0.0
    found = np.abs(difference.sum(axis=0)) - _SAME * np.count_nonzero(difference, axis=0)
    generator, reached = np.random.default_rng(seed), np.zeros(len(found), np.int64)
    for begin in range(0, draws, _CHUNK):
        size = (min(_CHUNK, draws - begin), len(difference))
        signs = 2.0 * generator.integers(0, 2, size, dtype=np.int8) - 1
        reached += (np.abs(signs @ difference) >= found).sum(axis=0)
    return (1 + reached) / (1 + draws)


def holm(p_values: Sequence[float] | NDArray) -> list[float]:
    """P-values adjusted by Holm's step-down method: of all tests, the chance of one false finding.

    In the order given, 0 to 1.
    """
    number, largest = len(p_values), 0.0
    adjusted = [0.0] * number
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (number - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
