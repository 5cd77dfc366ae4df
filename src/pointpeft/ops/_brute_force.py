"""Exact neighbour search over all pairs, in tiles."""

import torch
from torch import Tensor

from pointpeft.ops._numerics import distance_tiles
from pointpeft.ops._smallest import smallest

__all__ = ["search_all"]


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
