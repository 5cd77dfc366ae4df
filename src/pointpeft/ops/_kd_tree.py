"""Exact neighbour search on a CPU with SciPy's KD-tree, for clouds too large for all pairs."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from pointpeft.ops._brute_force import search_all
from pointpeft.ops._smallest import rank

__all__ = ["search_trees", "tree_is_faster"]

# A KD-tree wins from about this many pairs per cloud on, unless it has to return many.
_MIN_PAIRS = 1 << 21
_MIN_POINTS_PER_NEIGHBOR = 128

# Candidates beyond k that are asked for where k of them end in a tie, and how many times as many
# where those do. Whatever is still unsure then is searched among all points.
_MARGIN = 4
_WIDENING = 8
# Candidates held at a time, which bounds the memory.
_MAX_CANDIDATES = 1 << 21

# Bounds on how far float32 squared distances may be from the exact ones: eight roundings, and
# underflow. Above the limit float32 overflows.
_RELATIVE_ERROR = 1e-6
_ABSOLUTE_ERROR = 1e-36
_OVERFLOW = 1e38


def tree_is_faster(num_queries: int, num_points: int, k: int) -> bool:
    """Whether to search one cloud by a tree."""
    enough_pairs = num_queries * num_points >= _MIN_PAIRS
    return enough_pairs and k * _MIN_POINTS_PER_NEIGHBOR <= num_points


def search_trees(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Same result as :func:`~pointpeft.ops._brute_force.search_all`, cloud by cloud."""
    results = [_search_tree(*pair, k) for pair in zip(query, points, strict=True)]
    distances, indices = zip(*results, strict=True)
    return torch.stack(distances), torch.stack(indices)


def _search_tree(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``(Q, 3)``, ``(N, 3)`` -> ``(Q, k)``: propose by the tree, rank, repeat what is unsure."""
    distances = query.new_empty(len(query), k)
    indices = torch.empty(len(query), k, dtype=torch.int64)
    # Splitting at the middle of a box, not at the median, keeps the build fast with duplicates.
    tree = cKDTree(points.numpy(), balanced_tree=False, compact_nodes=False)
    axes = points.t().contiguous()
    pending = torch.arange(len(query))
    for width in (k, k + _MARGIN, _WIDENING * (k + _MARGIN)):
        if width >= len(points):
            break
        unsure = []
        for rows in pending.split(max(1, _MAX_CANDIDATES // width)):
            part = query[rows]
            candidates, sure = _propose(tree, part.numpy(), k, width)
            distances[rows], indices[rows] = _rank(part, axes, candidates, k)
            unsure.append(rows[~sure])
        pending = torch.cat(unsure)
        if not len(pending):
            return distances, indices
    rest = search_all(query[pending].unsqueeze(0), points.unsqueeze(0), k)
    distances[pending], indices[pending] = rest[0][0], rest[1][0]
    return distances, indices


def _rank(query: Tensor, axes: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest of the candidates ``(Q, width)``, by the documented distance."""
    dx, dy, dz = (
        (axis.take(candidates) - start.unsqueeze(1)).square_()
        for axis, start in zip(axes, query.unbind(1), strict=True)
    )
    return rank((dx + dy).add_(dz), candidates, k)


def _propose(tree: cKDTree, query: NDArray, k: int, width: int) -> tuple[Tensor, Tensor]:
    """``(Q, width)`` candidates, and for each query whether they must contain the ``k`` nearest.

    They do if all others, of which the nearest is found too, are farther than the k-th one by more
    than float32 rounding can change.
    """
    ranks = np.arange(1, width + 2)
    distances, candidates = tree.query(query, ranks, workers=torch.get_num_threads())
    squared = np.square(distances)
    kth, other = squared[:, k - 1], squared[:, width]
    sure = (other > kth * (1 + 2 * _RELATIVE_ERROR) + 2 * _ABSOLUTE_ERROR) & (other < _OVERFLOW)
    return torch.from_numpy(candidates)[:, :width], torch.from_numpy(sure)
