"""Carrying features from a sparse cloud to a dense one by inverse squared distances."""

from torch import Tensor

from pointpeft.errors import DataError
from pointpeft.ops._checks import check_cloud, check_features, check_same_batch
from pointpeft.ops._numerics import common_precision, full_precision, pairwise_squared_distance
from pointpeft.ops.gathering import select, select_weighted
from pointpeft.ops.neighbors import find_nearest

__all__ = ["interpolate", "inverse_distance_weights", "three_interpolate"]

# Added to squared distances, in the squared unit of the coordinates.
_EPSILON = 1e-8


def inverse_distance_weights(query: Tensor, source: Tensor) -> Tensor:
    """Weights of all source points for every query, ``1 / (d^2 + 1e-8)`` scaled to sum 1.

    Differentiable in both arguments. A query on a source point takes nearly all of its weight.

    Args:
        query: ``(B, Q, 3)`` coordinates.
        source: ``(B, S, 3)`` coordinates in the same unit.

    Returns:
        ``(B, Q, S)``, rows in [0, 1] summing to 1, float32 (float64 for float64 input).

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, or the batch
            sizes differ.

    Source: "PointNet++" (Qi et al., NeurIPS 2017), equation 2 with p = 2, over all points;
        propagation of prompts in "Point-PEFT" (Tang et al., AAAI 2024).
    """
    check_cloud(query, "query")
    check_cloud(source, "source")
    check_same_batch(query, "query", source, "source")
    query, source = common_precision(query, source)
    with full_precision(query):
        return _normalized_inverse(pairwise_squared_distance(query, source))


def three_interpolate(query: Tensor, source: Tensor, features: Tensor, k: int = 3) -> Tensor:
    """Interpolate features at the queries from the ``k`` nearest source points.

    Weights are ``1 / (d^2 + 1e-8)`` of the squared distance, scaled to sum 1 over the ``k``
    points. Fewer than ``k`` sources: all are used; a single one is broadcast. Differentiable in
    ``features`` and in the coordinates; the choice of neighbours is constant.

    Args:
        query: ``(B, Q, 3)`` coordinates.
        source: ``(B, S, 3)`` coordinates in the same unit.
        features: ``(B, S, C)`` features of the source points.
        k: Source points per query, at least 1.

    Returns:
        ``(B, Q, C)`` in the dtype of ``features``.

    Raises:
        DataError: If a tensor has the wrong shape or dtype, is empty or not finite, the batch
            sizes differ, ``features`` do not belong to ``source``, or ``k`` is below 1.

    Source: "PointNet++" (Qi et al., NeurIPS 2017), equation 2 with p = 2, k = 3.
    """
    check_cloud(query, "query")
    check_cloud(source, "source")
    check_features(features, "features", "(B, S, C)")
    check_same_batch(query, "query", source, "source")
    check_same_batch(source, "source", features, "features")
    if features.shape[1] != source.shape[1]:
        raise DataError(
            f"features must have one row per source point, "
            f"got {features.shape[1]} rows for {source.shape[1]} points"
        )
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    return interpolate(query, source, features, k)


def interpolate(query: Tensor, source: Tensor, features: Tensor, k: int = 3) -> Tensor:
    """:func:`three_interpolate` without checks, for features that a network made."""
    if source.shape[1] == 1:
        return features.expand(-1, query.shape[1], -1)
    query, source = common_precision(query, source)
    indices = find_nearest(query, source, min(k, source.shape[1]))
    with full_precision(query):
        distances = (query.unsqueeze(2) - select(source, indices)).square().sum(-1)
        weights = _normalized_inverse(distances).to(features.dtype)  # (B, Q, k)
        return select_weighted(features, indices, weights)


def _normalized_inverse(squared_distances: Tensor) -> Tensor:
    weights = 1.0 / (squared_distances + _EPSILON)
    return weights / weights.sum(-1, keepdim=True)
