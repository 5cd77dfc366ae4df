"""The smallest entries of many rows, equal ones in the order of their position.

On a CPU this is NumPy, whose selections are vectorised and PyTorch's are not.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["first_minimum", "rank", "smallest"]

_INDEX_BITS = 32

# For the bound on the k-th smallest entry, a row is cut into at least this many blocks (enough to
# fill a vector unit, and so many that few entries beyond the k pass), of at most this many entries.
_MIN_BLOCKS = 32
_BLOCKS_PER_NEIGHBOR = 4
_MAX_BLOCK = 16


def smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``(R, N)`` non-negative values -> the ``k`` smallest of each row, ascending, and where."""
    if k == 1:
        indices = first_minimum(values, -1).unsqueeze(-1)
        return values.gather(-1, indices), indices
    if values.device.type == "cpu":
        return rank(*_candidates(values, k), k)
    return rank(values, torch.arange(values.shape[-1], device=values.device), k)


def _candidates(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """All entries up to a bound on the ``k``-th smallest: ``(R, W)`` values and indices.

    The bound is the ``k``-th smallest of the minima of blocks of the row, because each of these
    ``k`` minima is an entry. Rows with fewer candidates than ``W`` are filled with infinity.
    """
    rows, columns = values.shape
    size = min(_MAX_BLOCK, columns // max(_BLOCKS_PER_NEIGHBOR * k, _MIN_BLOCKS)) or 1
    blocks = columns // size
    minima = values[:, : size * blocks].unflatten(1, (size, blocks)).amin(1).numpy()
    bound = np.partition(minima, k - 1, axis=1)[:, k - 1 : k]
    found = np.flatnonzero(~(values.numpy() > bound))  # NaN is not above: all rows have k
    row = found // columns
    counts = np.bincount(row, minlength=rows)
    filled = np.arange(counts.max()) < counts[:, None]
    candidates = np.full(filled.shape, np.inf, values.numpy().dtype)
    candidates[filled] = values.numpy().reshape(-1)[found]
    indices = np.full(filled.shape, columns)
    indices[filled] = found - row * columns
    return torch.from_numpy(candidates), torch.from_numpy(indices)


def rank(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` smallest pairs ``(value, index)`` of each row, in lexicographic order.

    ``torch.topk`` leaves the order of equal values open. The bits of non-negative float32 numbers
    sort like integers, so one int64 key of value (upper half) and index (lower half) decides.

    Args:
        values: ``(..., M)`` non-negative; the memory may be reused.
        indices: int64, broadcastable to ``values``, below ``2**32``.
        k: Pairs to keep per row.
    """
    if values.dtype == torch.float64:
        return _rank_by_sorting(values, indices.expand_as(values), k)
    keys = values.contiguous().view(torch.int32).to(torch.int64)
    keys = keys.bitwise_left_shift_(_INDEX_BITS).add_(indices)
    if keys.device.type == "cpu":
        keys.numpy().sort()
        keys = keys[..., :k]
    else:
        keys = keys.topk(k, largest=False).values
    bits = (keys >> _INDEX_BITS).to(torch.int32)
    return bits.view(torch.float32), keys & ((1 << _INDEX_BITS) - 1)


def _rank_by_sorting(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Float64 fills the key alone: sort by index, then stably by value."""
    indices, order = indices.sort(-1)
    values, order = values.gather(-1, order).sort(dim=-1, stable=True)
    return values[..., :k], indices.gather(-1, order)[..., :k]


def first_minimum(values: Tensor, dim: int) -> Tensor:
    """Position of the first minimum along the last dimension (-1) or the one before (-2)."""
    if values.device.type != "cpu":
        return values.min(dim).indices  # documented to return the first minimum
    if dim == -1:
        return torch.from_numpy(values.numpy().argmin(-1))
    return torch.from_numpy(_first_minimum_of_columns(values))


def _first_minimum_of_columns(values: Tensor) -> NDArray:
    """``(B, R, C)`` -> ``(B, C)``: look up which entries equal the minimum of their column."""
    _, rows, columns = values.shape
    minima = values.amin(1, keepdim=True).numpy()
    row, column = np.divmod(np.flatnonzero(values.numpy() == minima), columns)
    matrix, row = np.divmod(row, rows)
    first = np.full(len(values) * columns, rows)
    np.minimum.at(first, matrix * columns + column, row)
    if first.max() == rows:  # nothing equals a minimum that is NaN
        return values.min(1).indices.numpy()
    return first.reshape(-1, columns)
