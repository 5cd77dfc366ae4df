"""Selecting points, or features of points, by index."""

import torch
from torch import Tensor

from pointpeft.ops._checks import check_features, check_indices, check_same_batch

__all__ = ["gather_points"]


def gather_points(points: Tensor, indices: Tensor) -> Tensor:
    """Select points of every cloud by their index within the cloud.

    Differentiable in ``points``: the gradients of repeated indices add up.

    Args:
        points: ``(B, N, C)`` coordinates or features.
        indices: ``(B, ...)`` int64 or int32, in ``[0, N)``.

    Returns:
        ``(B, ..., C)``, in the dtype of ``points``.

    Raises:
        ValueError: If ``points`` is not a finite, non-empty ``(B, N, C)`` float tensor, or
            ``indices`` are not integers within range for the same batch.
    """
    check_features(points, "points")
    check_indices(indices, "indices", points.shape[1])
    check_same_batch(points, "points", indices, "indices")
    return select(points, indices)


def select(points: Tensor, indices: Tensor) -> Tensor:
    """:func:`gather_points` without checks, for indices known to be in range."""
    clouds, num_points, channels = points.shape
    offsets = torch.arange(clouds, device=indices.device, dtype=torch.int64) * num_points
    flat = indices + offsets.view(clouds, *[1] * (indices.ndim - 1))
    rows = points.reshape(clouds * num_points, channels).index_select(0, flat.reshape(-1))
    return rows.view(*indices.shape, channels)
