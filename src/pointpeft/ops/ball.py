"""Neighbours within a radius."""

import torch
from torch import Tensor

from pointpeft.ops._checks import check_cloud, check_positive, check_same_batch
from pointpeft.ops._numerics import common_precision, distance_tiles

__all__ = ["ball_query"]


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
        ValueError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, ``radius`` is not positive and finite, or ``k`` is below 1.

    Source: "PointNet++" (Qi et al., NeurIPS 2017), section 3.2; ``ball_query`` of pointnet2_ops.
    """
    check_cloud(query, "query")
    check_cloud(points, "points")
    check_same_batch(query, "query", points, "points")
    check_positive(radius, "radius")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
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
