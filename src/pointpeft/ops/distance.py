"""Squared distances between all pairs of points."""

from torch import Tensor

from pointpeft.ops._checks import check_cloud, check_same_batch
from pointpeft.ops._numerics import common_precision, full_precision, pairwise_squared_distance

__all__ = ["squared_distance"]


def squared_distance(query: Tensor, points: Tensor) -> Tensor:
    """Squared Euclidean distance of every query to every point, by direct differences.

    Differentiable in both arguments; never negative, and exactly 0 for coincident points. Memory
    is that of the result; use :func:`~pointpeft.ops.knn` where only near points matter.

    Args:
        query: ``(B, Q, 3)`` coordinates.
        points: ``(B, N, 3)`` coordinates in the same unit.

    Returns:
        ``(B, Q, N)`` in the squared unit, float32 (float64 for float64 input).

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, or the batch
            sizes differ.
    """
    check_cloud(query, "query")
    check_cloud(points, "points")
    check_same_batch(query, "query", points, "points")
    query, points = common_precision(query, points)
    with full_precision(query):
        return pairwise_squared_distance(query, points)
