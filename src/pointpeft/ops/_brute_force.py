"""Exact neighbour search over all pairs, in tiles."""

import torch
from torch import Tensor

from pointpeft.ops._numerics import pairwise_squared_distance, tiles

__all__ = ["rank", "search_all"]

_INDEX_BITS = 32


def search_all(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``k`` smallest squared distances and their indices, each ``(B, Q, k)``, ascending."""
    clouds, rows, columns = query.shape[0], query.shape[1], points.shape[1]
    distances = query.new_empty(clouds, rows, k)
    indices = query.new_empty(clouds, rows, k, dtype=torch.int64)
    for cloud, row in tiles(clouds, rows, columns, query.device):
        tile = pairwise_squared_distance(query[cloud, row], points[cloud])
        distances[cloud, row], indices[cloud, row] = _smallest(tile, k)
    return distances, indices


def _smallest(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` smallest entries of each row, equal ones in the order of their position."""
    if k == 1:
        return distances.min(-1, keepdim=True)  # documented to return the first minimum
    columns = torch.arange(distances.shape[-1], device=distances.device)
    return rank(distances, columns, k)


def rank(distances: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` smallest pairs ``(distance, index)`` of each row, in lexicographic order.

    ``torch.topk`` leaves the order of equal values open. The bits of non-negative float32 numbers
    sort like integers, so one int64 key of distance (upper half) and index (lower half) decides.

    Args:
        distances: ``(..., M)`` non-negative; the memory may be reused.
        indices: int64, broadcastable to ``distances``, below ``2**32``.
        k: Pairs to keep per row.
    """
    if distances.dtype == torch.float64:
        return _rank_by_sorting(distances, indices.expand_as(distances), k)
    keys = distances.contiguous().view(torch.int32).to(torch.int64)
    keys = keys.bitwise_left_shift_(_INDEX_BITS).add_(indices)
    keys = keys.topk(k, largest=False).values
    bits = (keys >> _INDEX_BITS).to(torch.int32)
    return bits.view(torch.float32), keys & ((1 << _INDEX_BITS) - 1)


def _rank_by_sorting(distances: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float64 fills the key alone: sort by index, then stably by distance."""
    indices, order = indices.sort(-1)
    distances, order = distances.gather(-1, order).sort(dim=-1, stable=True)
    return distances[..., :k], indices.gather(-1, order)[..., :k]
