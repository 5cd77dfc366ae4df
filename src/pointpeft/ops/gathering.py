"""Selecting points, or features of points, by index."""

import torch
from torch import Tensor

from pointpeft.ops._checks import check_features, check_indices, check_same_batch
from pointpeft.ops._weighted_rows import weighted_rows

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
    return select_rows(*_one_table(points, indices))


def select_weighted(points: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum over the last dimension of ``indices`` of the selected points times ``weights``.

    Args:
        points: ``(B, N, C)``.
        indices: ``(B, Q, K)`` int64, in ``[0, N)``.
        weights: ``(B, Q, K)``, in the dtype of ``points``.

    Returns:
        ``(B, Q, C)``.
    """
    table, rows = _one_table(points, indices)
    total = weighted_rows(table, rows.flatten(0, 1), weights.flatten(0, 1))
    return total.view(*indices.shape[:2], points.shape[2])


def _one_table(points: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The clouds one below the other, ``(B * N, C)``, and the indices into that."""
    clouds, num_points, channels = points.shape
    offsets = torch.arange(clouds, device=indices.device, dtype=torch.int64) * num_points
    rows = indices + offsets.view(clouds, *[1] * (indices.ndim - 1))
    return points.reshape(clouds * num_points, channels), rows


def select_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """``rows[indices]`` of ``rows (R, C)``, with a gradient that is added up row by row.

    That of plain indexing is added up value by value, which takes ten times as long.
    """
    return rows.index_select(0, indices.reshape(-1)).view(*indices.shape, rows.shape[1])
