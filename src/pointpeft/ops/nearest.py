"""Exact nearest neighbours."""

import torch
from torch import Tensor

from pointpeft.ops._brute_force import search_all
from pointpeft.ops._checks import check_cloud, check_count, check_same_batch
from pointpeft.ops._kd_tree import search_trees, tree_is_faster
from pointpeft.ops._numerics import common_precision

__all__ = ["knn"]


def knn(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the ``k`` nearest points of every query, exactly.

    Distances are direct float32 differences ``dx*dx + dy*dy + dz*dz``; the result is ascending,
    and equal distances are in the order of the index, so it is the same on every run and for every
    chunk size. A query that is one of the points finds itself. Not differentiable.

    Memory is linear in ``Q`` and ``N``. Large clouds on a CPU go through SciPy's KD-tree, which
    rounds differently (float64): it only proposes candidates, which are ranked by the float32
    distance. Queries for which the proposal cannot be proved complete, because the next candidate
    may be as near as the last, are searched again, so that both ways return the same.

    Args:
        query: ``(B, Q, 3)`` coordinates.
        points: ``(B, N, 3)`` coordinates in the same unit.
        k: Neighbours per query, between 1 and ``N``.

    Returns:
        Squared distances ``(B, Q, k)``, float32 (float64 for float64 input), and int64 indices
        ``(B, Q, k)`` into ``points``.

    Raises:
        ValueError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, or ``k`` is not between 1 and ``N``.
    """
    check_cloud(query, "query")
    check_cloud(points, "points")
    check_same_batch(query, "query", points, "points")
    check_count(k, "k", points.shape[1], "the number of points")
    query, points = common_precision(query.detach(), points.detach())
    distances, indices = _knn(query, points, k)
    return distances, indices


def find_nearest(query: Tensor, points: Tensor, k: int) -> Tensor:
    """Indices of :func:`knn` without checks, for clouds of one dtype."""
    indices: Tensor = _knn(query.detach(), points.detach(), k)[1]
    return indices


@torch.library.custom_op("pointpeft::knn", mutates_args=())
def _knn(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if query.device.type == "cpu" and tree_is_faster(query.shape[1], points.shape[1], k):
        return search_trees(query, points, k)
    return search_all(query, points, k)


@_knn.register_fake
def _(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (query.shape[0], query.shape[1], k)
    return query.new_empty(shape), query.new_empty(shape, dtype=torch.int64)
