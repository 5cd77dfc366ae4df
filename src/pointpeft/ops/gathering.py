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
    return select_rows(points.reshape(clouds * num_points, channels), flat)


def select_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """``rows[indices]`` of ``rows (R, C)``, with a gradient that is added up row by row.

    That of plain indexing is added up value by value, which takes ten times as long.
    """
    return rows.index_select(0, indices.reshape(-1)).view(*indices.shape, rows.shape[1])
