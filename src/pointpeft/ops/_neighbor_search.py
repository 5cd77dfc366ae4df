"""Exact neighbour search: over all pairs in tiles, or by a KD-tree; ties in the order of position.

On a CPU this is NumPy, whose selections are vectorised and PyTorch's are not.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from pointpeft.ops._numerics import distance_tiles

__all__ = ["first_minimum", "rank", "search_all", "search_trees", "smallest", "tree_is_faster"]

_INDEX_BITS = 32

# For the bound on the k-th smallest entry, a row is cut into at least this many blocks (enough to
# fill a vector unit, and so many that few entries beyond the k pass), of at most this many entries.
_MIN_BLOCKS = 32
_BLOCKS_PER_NEIGHBOR = 4
_MAX_BLOCK = 16


def smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``(R, N)`` non-negative values -> the ``k`` smallest of each row, ascending, and where."""
    if k == 1:
        indices = first_minimum(values, -1).unsqueeze(-1)
        return values.gather(-1, indices), indices
    if values.device.type == "cpu":
        return rank(*_candidates(values, k), k)
    return rank(values, torch.arange(values.shape[-1], device=values.device), k)


def _candidates(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """All entries up to a bound on the ``k``-th smallest: ``(R, W)`` values and indices.

    The bound is the ``k``-th smallest of the minima of blocks of the row, because each of these
    ``k`` minima is an entry. Rows with fewer candidates than ``W`` are filled with infinity.
    """
    rows, columns = values.shape
    size = min(_MAX_BLOCK, columns // max(_BLOCKS_PER_NEIGHBOR * k, _MIN_BLOCKS)) or 1
    blocks = columns // size
    minima = values[:, : size * blocks].unflatten(1, (size, blocks)).amin(1).numpy()
    bound = np.partition(minima, k - 1, axis=1)[:, k - 1 : k]
    found = np.flatnonzero(~(values.numpy() > bound))  # NaN is not above: all rows have k
    row = found // columns
    counts = np.bincount(row, minlength=rows)
    filled = np.arange(counts.max()) < counts[:, None]
    candidates = np.full(filled.shape, np.inf, values.numpy().dtype)
    candidates[filled] = values.numpy().reshape(-1)[found]
    indices = np.full(filled.shape, columns)
    indices[filled] = found - row * columns
    return torch.from_numpy(candidates), torch.from_numpy(indices)


def rank(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` smallest pairs ``(value, index)`` of each row, in lexicographic order.

    ``torch.topk`` leaves the order of equal values open. The bits of non-negative float32 numbers
    sort like integers, so one int64 key of value (upper half) and index (lower half) decides.

    Args:
        values: ``(..., M)`` non-negative; the memory may be reused.
        indices: int64, broadcastable to ``values``, below ``2**32``.
        k: Pairs to keep per row.
    """
    if values.dtype == torch.float64:
        return _rank_by_sorting(values, indices.expand_as(values), k)
    keys = values.contiguous().view(torch.int32).to(torch.int64)
    keys = keys.bitwise_left_shift_(_INDEX_BITS).add_(indices)
    if keys.device.type == "cpu":
        keys.numpy().sort()
        keys = keys[..., :k]
    else:
        keys = keys.topk(k, largest=False).values
    bits = (keys >> _INDEX_BITS).to(torch.int32)
    return bits.view(torch.float32), keys & ((1 << _INDEX_BITS) - 1)


def _rank_by_sorting(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float64 fills the key alone: sort by index, then stably by value."""
    indices, order = indices.sort(-1)
    values, order = values.gather(-1, order).sort(dim=-1, stable=True)
    return values[..., :k], indices.gather(-1, order)[..., :k]


def first_minimum(values: Tensor, dim: int) -> Tensor:
    """Position of the first minimum along the last dimension (-1) or the one before (-2)."""
    if values.device.type != "cpu":
        return values.min(dim).indices  # documented to return the first minimum
    if dim == -1:
        return torch.from_numpy(values.numpy().argmin(-1))
    return torch.from_numpy(_first_minimum_of_columns(values))


def _first_minimum_of_columns(values: Tensor) -> NDArray:
    """``(B, R, C)`` -> ``(B, C)``: look up which entries equal the minimum of their column."""
    _, rows, columns = values.shape
    minima = values.amin(1, keepdim=True).numpy()
    row, column = np.divmod(np.flatnonzero(values.numpy() == minima), columns)
    matrix, row = np.divmod(row, rows)
    first = np.full(len(values) * columns, rows)
    np.minimum.at(first, matrix * columns + column, row)
    if first.max() == rows:  # nothing equals a minimum that is NaN
        return values.min(1).indices.numpy()
    return first.reshape(-1, columns)


def search_all(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``k`` smallest squared distances and their indices, each ``(B, Q, k)``, ascending."""
    shape = (*query.shape[:2], k)
    distances = query.new_empty(shape)
    indices = query.new_empty(shape, dtype=torch.int64)
    for cloud, row, tile in distance_tiles(query, points):
        found = smallest(tile.flatten(0, 1), k)
        distances[cloud, row] = found[0].view(*tile.shape[:2], k)
        indices[cloud, row] = found[1].view(*tile.shape[:2], k)
    return distances, indices


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
    """Same result as :func:`~pointpeft.ops._neighbor_search.search_all`, cloud by cloud."""
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
