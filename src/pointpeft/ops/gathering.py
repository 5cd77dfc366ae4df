"""Selecting points, or features of points, by index, and weighted sums of them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pointpeft.ops._checks import check_features, check_indices, check_same_batch

__all__ = ["gather_points", "weighted_rows"]


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum over ``k`` of ``weights[:, k] * table[rows[:, k]]``.

    Differentiable in ``table`` and ``weights``. Sums are in the order of ``k``, and those of the
    gradient in the order of the result, so that neither depends on the other rows.

    Args:
        table: ``(R, C)``.
        rows: ``(Q, K)`` int64, in ``[0, R)``.
        weights: ``(Q, K)``, in the dtype of ``table``.

    Returns:
        ``(Q, C)``.
    """
    if torch.compiler.is_compiling() and not (table.requires_grad or weights.requires_grad):
        # Formats that graphs are exported to have no bags.
        return (select_rows(table, rows) * weights.unsqueeze(-1)).sum(1)
    total: Tensor = _WeightedRows.apply(table, rows, weights)
    return total


class _WeightedRows(torch.autograd.Function):
    """A bag of embeddings with a gradient that is one too: the sum runs over the results.

    The gradient of ``embedding_bag`` itself adds up in no particular order.
    """

    @staticmethod
    def forward(context: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        context.save_for_backward(table, rows, weights)
        return functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, rows, weights = context.saved_tensors
        needs_table, _, needs_weights = context.needs_input_grad
        of_table = _scattered(gradient, rows, weights, len(table)) if needs_table else None
        of_weights = None
        if needs_weights:
            products = [(table.index_select(0, row) * gradient).sum(1) for row in rows.unbind(1)]
            of_weights = torch.stack(products, 1)
        return of_table, None, of_weights


def _scattered(values: Tensor, rows: Tensor, weights: Tensor, size: int) -> Tensor:
    """``(Q, C)`` -> ``(size, C)``: each value times its weights, added to its rows."""
    sorted_rows, order = rows.flatten().sort(stable=True)
    begin = torch.searchsorted(sorted_rows, torch.arange(size, device=rows.device))
    source = order.div(rows.shape[1], rounding_mode="floor")
    weights = weights.flatten().index_select(0, order)
    return functional.embedding_bag(source, values, begin, mode="sum", per_sample_weights=weights)


def gather_points(points: Tensor, indices: Tensor) -> Tensor:
    """Select points of every cloud by their index within the cloud.

    Differentiable in ``points``: the gradients of repeated indices add up.

    Args:
        points: ``(B, N, C)`` coordinates or features.
        indices: ``(B, ...)`` int64 or int32, in ``[0, N)``.

    Returns:
        ``(B, ..., C)``, in the dtype of ``points``.

    Raises:
        DataError: If ``points`` is not a finite, non-empty ``(B, N, C)`` float tensor, or
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
