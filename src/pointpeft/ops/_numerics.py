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
    "full_precision",
    "pairwise_squared_distance",
    "tile_size",
    "tiles",
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
    rows = query.unsqueeze(2).unbind(-1)  # three of (B, Q, 1)
    columns = points.transpose(1, 2).contiguous().unsqueeze(2).unbind(1)  # three of (B, 1, N)
    if torch.is_grad_enabled() and (query.requires_grad or points.requires_grad):
        dx, dy, dz = ((row - column).square() for row, column in zip(rows, columns, strict=True))
        return (dx + dy) + dz
    total = torch.sub(rows[0], columns[0]).square_()
    term = torch.sub(rows[1], columns[1]).square_()
    total.add_(term)
    torch.sub(rows[2], columns[2], out=term)
    return total.add_(term.square_())


def tile_size(device: torch.device) -> int:
    """Entries of a distance matrix to hold at a time on ``device``."""
    return _CPU_TILE if device.type == "cpu" else _ACCELERATOR_TILE


def tiles(
    clouds: int, rows: int, columns: int, device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """Cut a ``(clouds, rows, columns)`` array into tiles (slice of clouds, slice of rows).

    A tile holds whole rows and at most the budget of the device, or one row if that is longer.
    """
    budget = tile_size(device)
    cloud_step = max(1, budget // (rows * columns))
    row_step = rows if cloud_step > 1 else min(rows, max(1, budget // columns))
    for cloud in range(0, clouds, cloud_step):
        for row in range(0, rows, row_step):
            yield slice(cloud, cloud + cloud_step), slice(row, row + row_step)
