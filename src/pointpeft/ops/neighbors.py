"""Exact nearest neighbours, neighbours within a radius, and patches of them."""

import torch
from torch import Tensor

from pointpeft.errors import DataError
from pointpeft.ops._checks import check_cloud, check_count, check_positive, check_same_batch
from pointpeft.ops._neighbor_search import search_all, search_trees, tree_is_faster
from pointpeft.ops._numerics import common_precision, distance_tiles
from pointpeft.ops.gathering import select

__all__ = ["ball_query", "group_points", "knn"]


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
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
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


def ball_query(query: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    """Find up to ``k`` points closer than ``radius`` to each query: the first by index.

    Not the nearest: points are scanned in the order of their index, and the first ``k`` with
    ``d^2 < radius^2`` (strictly, in float32) are kept. With fewer than ``k``, the first one fills
    the remaining places; an empty ball gives zeros, that is, index 0 throughout. Not
    differentiable. Memory is linear in ``Q`` and ``N``.

    Args:
        query: ``(B, Q, 3)`` coordinates.
        points: ``(B, N, 3)`` coordinates in the same unit.
        radius: Positive, in the unit of the coordinates.
        k: Places per query, at least 1; may exceed ``N``.

    Returns:
        ``(B, Q, k)`` int64 indices into ``points``.

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, ``radius`` is not positive and finite, or ``k`` is below 1.

    Source: "PointNet++" (Qi et al., NeurIPS 2017), section 3.2; ``ball_query`` of pointnet2_ops.
    """
    check_cloud(query, "query")
    check_cloud(points, "points")
    check_same_batch(query, "query", points, "points")
    check_positive(radius, "radius")
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    query, points = common_precision(query.detach(), points.detach())
    return _ball_query(query, points, float(radius), k)


@torch.library.custom_op("pointpeft::ball_query", mutates_args=())
def _ball_query(query: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    limit = query.new_tensor(radius).square()  # rounded to the dtype of the coordinates
    indices = query.new_empty(*query.shape[:2], k, dtype=torch.int64)
    for cloud, row, tile in distance_tiles(query, points):
        indices[cloud, row] = _first_hits(tile < limit, k)
    return indices


@_ball_query.register_fake
def _(query: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    return query.new_empty((query.shape[0], query.shape[1], k), dtype=torch.int64)


def _first_hits(inside: Tensor, k: int) -> Tensor:
    """Positions of the first ``k`` true entries per row, filled up with the first, or with 0."""
    columns = inside.shape[-1]
    position = torch.arange(columns, device=inside.device, dtype=torch.int32)
    position = position.expand_as(inside).masked_fill(~inside, columns)
    hits = position.topk(min(k, columns), largest=False).values
    hits = torch.nn.functional.pad(hits, (0, k - hits.shape[-1]), value=columns)
    hits = torch.where(hits == columns, hits[..., :1], hits)
    return hits.masked_fill(hits == columns, 0).long()


def group_points(points: Tensor, centers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Form around each center the patch of its ``k`` nearest points, relative to the center.

    Differentiable in ``points`` and ``centers``; the choice of neighbours is constant. Patches are
    not scaled.

    Args:
        points: ``(B, N, 3)`` coordinates.
        centers: ``(B, G, 3)`` coordinates in the same frame, usually some of the points.
        k: Points per patch, between 1 and ``N``.

    Returns:
        Neighbourhoods ``(B, G, k, 3)``, nearest first, and the int64 indices ``(B, G, k)`` of
        their points.

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, or ``k`` is not between 1 and ``N``.

    Source: "Point-MAE" (Pang et al., ECCV 2022), section 3.1; "Point-BERT" (Yu et al., CVPR 2022).
    """
    check_cloud(points, "points")
    check_cloud(centers, "centers")
    check_same_batch(points, "points", centers, "centers")
    check_count(k, "k", points.shape[1], "the number of points")
    _, indices = knn(centers, points, k)
    return select(points, indices) - centers.unsqueeze(2), indices
