"""Weighted sums of the rows of a table, without holding the rows."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["weighted_rows"]


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
