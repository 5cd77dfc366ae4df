"""Exact search among features of unit length, and groups of near-duplicates."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["Matches", "near_duplicates", "nearest", "unit_blocks", "unit_rows"]

_ROWS = 65_536
"""Rows that queries are compared with at a time."""
_QUERIES = 256
"""Queries that are compared at a time: 64 MB of similarities."""
_TILE = 4096
"""Rows that are compared with as many others at a time, to find duplicates."""
_ROUNDING = 1e-6
"""By which two equal rows may seem to differ."""


class Matches(NamedTuple):
    """What is nearest to ``Q`` queries, the nearest first; of equal ones the first stored.

    Attributes:
        places: ``(Q, K)`` int64, rows of what was searched.
        similarities: ``(Q, K)`` float32, cosines from -1 to 1.
    """

    places: NDArray[np.int64]
    similarities: NDArray[np.float32]

    def pairs(self) -> Iterator[list[tuple[int, float]]]:
        """For every query the places with their similarities."""
        for row in zip(self.places.tolist(), self.similarities.tolist(), strict=True):
            yield list(zip(*row, strict=True))


def nearest(queries: NDArray, features: NDArray, top: int) -> Matches:
    """The rows of largest cosine similarity, found by comparing with every row.

    Args:
        queries: ``(Q, C)``.
        features: ``(S, C)`` of any floating type; a mapped file serves too.
        top: how many to find; K is S where there are fewer.
    """
    found = [
        _nearest(unit_rows(queries[start : start + _QUERIES]), features, min(top, len(features)))
        for start in range(0, len(queries), _QUERIES)
    ]
    return Matches(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _nearest(queries: NDArray, features: NDArray, top: int) -> Matches:
    """The same for a few queries of unit length: the best so far, and those of every block."""
    places = np.zeros((len(queries), 0), dtype=np.int64)
    similar = np.zeros((len(queries), 0), dtype=np.float32)
    for start, rows in unit_blocks(features, _ROWS):
        of_block = queries @ rows.T
        near = np.broadcast_to(np.arange(len(rows)), of_block.shape)
        if top < len(rows):
            near = np.argpartition(-of_block, top - 1, axis=1)[:, :top]
            of_block = np.take_along_axis(of_block, near, axis=1)
        places = np.concatenate([places, near + start], axis=1)
        similar = np.concatenate([similar, of_block], axis=1)
        order = np.lexsort((places, -similar))[:, :top]
        places = np.take_along_axis(places, order, axis=1)
        similar = np.take_along_axis(similar, order, axis=1)
    return Matches(places, np.clip(similar, -1, 1))


def near_duplicates(
    features: NDArray, threshold: float, progress: Callable[[int, int], None] | None = None
) -> list[NDArray[np.int64]]:
    """Groups of rows that hang together by similarities of at least ``threshold``.

    Two rows of a group may be less alike than that, if others lie between them. All pairs are
    compared, which takes four times as long for twice as many rows.

    Args:
        features: ``(S, C)``.
        threshold: cosine similarity, up to 1.
        progress: called with (done, total) rows.

    Returns:
        Places of the rows of each group, ascending; the largest group first.
    """
    group = np.arange(len(features))
    for start, rows in unit_blocks(features, _TILE):
        for other, columns in unit_blocks(features, _TILE, start):
            first, second = np.nonzero(rows @ columns.T >= threshold - _ROUNDING)
            later = second + other > first + start
            if later.any():
                group = _joined(group, first[later] + start, second[later] + other)
        if progress is not None:
            progress(min(start + _TILE, len(features)), len(features))
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    groups = [each for each in np.split(order, ends) if len(each) > 1]
    return sorted(groups, key=lambda each: (-len(each), each[0]))


def _joined(group: NDArray, first: NDArray, second: NDArray) -> NDArray:
    """Numbers of the groups ``(S,)`` when those of ``first`` and ``second (P,)`` are joined."""
    pairs = (np.ones(len(first), dtype=bool), (group[first], group[second]))
    return connected_components(coo_array(pairs, (len(group), len(group))), directed=False)[1][
        group
    ]


def unit_blocks(
    features: NDArray, size: int = _ROWS, start: int = 0
) -> Iterator[tuple[int, NDArray]]:
    """Rows of unit length in float32, some at a time, each time with the place of the first."""
    for place in range(start, len(features), size):
        yield place, unit_rows(features[place : place + size])


def unit_rows(rows: NDArray) -> NDArray[np.float32]:
    """Rows of unit length, which half precision does not quite keep; zeros stay."""
    rows = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
