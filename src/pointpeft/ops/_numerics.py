"""Precision and memory rules that all point operations follow.

Distances are sums of squared differences, ``(dx * dx + dy * dy) + dz * dz`` in this order, in
float32 (half-precision input is raised first) or in float64 for float64 input, autocast or not.
The matrix-product expansion ``|a|^2 + |b|^2 - 2 a.b`` is not used: its cancellation changes the
order of near neighbours.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "common_precision",
    "distance_tiles",
    "full_precision",
    "pairwise_squared_distance",
    "working",
]

# Entries of one tile of a distance matrix: small enough for the caches of a CPU core, large enough
# to fill an accelerator.
_CPU_TILE = 1 << 19
_ACCELERATOR_TILE = 1 << 25


def working(tensor: Tensor) -> Tensor:
    """Raise half precision to float32; float32 and float64 pass unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def common_precision(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Bring both tensors to one working dtype."""
    dtype = torch.promote_types(working(first).dtype, working(second).dtype)
    return first.to(dtype), second.to(dtype)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast is off for the device of ``tensor``."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def pairwise_squared_distance(query: Tensor, points: Tensor) -> Tensor:
    """``(B, Q, 3)``, ``(B, N, 3)`` -> ``(B, Q, N)``, in place where no gradient is recorded."""
    if torch.is_grad_enabled() and (query.requires_grad or points.requires_grad):
        dx, dy, dz = ((row - column).square() for row, column in _coordinates(query, points))
        return (dx + dy) + dz
    memory = query.new_empty(2, query.shape[0], query.shape[1], points.shape[1])
    return _fill(memory, query, points)


def _coordinates(query: Tensor, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """x, y and z of the queries, ``(B, Q, 1)``, and of the points, ``(B, 1, N)``."""
    rows = query.unsqueeze(2).unbind(-1)
    columns = points.transpose(1, 2).contiguous().unsqueeze(2).unbind(1)
    return zip(rows, columns, strict=True)


def _fill(memory: Tensor, query: Tensor, points: Tensor) -> Tensor:
    """Squared distances in the first half of ``memory (2, B, Q, N)``, whose other is scratch."""
    total, term = memory
    for axis, (row, column) in enumerate(_coordinates(query, points)):
        torch.sub(row, column, out=term if axis else total).square_()
        if axis:
            total.add_(term)
    return total


def distance_tiles(query: Tensor, points: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """All squared distances in tiles: slice of clouds, slice of queries, distances ``(b, q, N)``.

    A tile holds whole rows and at most the budget of the device, or one row if that is longer. The
    memory of a tile is that of the next one too: fresh memory costs more time than the distances.
    """
    clouds, rows, columns = query.shape[0], query.shape[1], points.shape[1]
    budget = _CPU_TILE if query.device.type == "cpu" else _ACCELERATOR_TILE
    cloud_step = min(clouds, max(1, budget // (rows * columns)))
    row_step = rows if cloud_step > 1 else min(rows, max(1, budget // columns))
    memory = query.new_empty(2, cloud_step, row_step, columns)
    for start in range(0, clouds, cloud_step):
        cloud = slice(start, min(start + cloud_step, clouds))
        for first in range(0, rows, row_step):
            row = slice(first, min(first + row_step, rows))
            part = memory[:, : cloud.stop - cloud.start, : row.stop - row.start]
            yield cloud, row, _fill(part, query[cloud, row], points[cloud])
