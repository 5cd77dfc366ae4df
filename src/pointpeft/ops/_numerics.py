"""Precision and memory rules that all point operations follow.

Distances are sums of squared differences, ``(dx * dx + dy * dy) + dz * dz`` in this order, in
float32 (half-precision input is raised first) or in float64 for float64 input, autocast or not.
The matrix-product expansion ``|a|^2 + |b|^2 - 2 a.b`` is not used: its cancellation changes the
order of near neighbours.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = [
    "common_precision",
    "distance_tiles",
    "full_precision",
    "pair_distance",
    "pairwise_squared_distance",
    "root",
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


def full_precision(tensor: Tensor) -> AbstractContextManager[None]:
    """Context in which autocast is off for the device of ``tensor``.

    Where it is off already this is none at all: graphs that are exported cannot hold it.
    """
    device = tensor.device.type
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device_type=device, enabled=False)


def pairwise_squared_distance(query: Tensor, points: Tensor) -> Tensor:
    """``(B, Q, 3)``, ``(B, N, 3)`` -> ``(B, Q, N)``, in place where no gradient is recorded."""
    rows, columns = _coordinates(query, points)
    if torch.is_grad_enabled() and (query.requires_grad or points.requires_grad):
        dx, dy, dz = ((row - column).square() for row, column in zip(rows, columns, strict=True))
        return (dx + dy) + dz
    total = torch.sub(rows[0], columns[0]).square_()
    term = torch.sub(rows[1], columns[1]).square_()
    total.add_(term)
    torch.sub(rows[2], columns[2], out=term)
    return total.add_(term.square_())


def _coordinates(query: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """x, y and z of the queries, ``(3, B, Q, 1)``, and of the points, ``(3, B, 1, N)``."""
    return query.movedim(2, 0).unsqueeze(3), points.movedim(2, 0).contiguous().unsqueeze(2)


def distance_tiles(query: Tensor, points: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """All squared distances in tiles: slice of clouds, slice of queries, distances ``(b, q, N)``.

    A tile holds whole rows and at most the budget of the device, or one row if that is longer. The
    memory of a tile is that of the next one too: fresh memory costs more time than the distances.
    """
    clouds, rows, columns = query.shape[0], query.shape[1], points.shape[1]
    budget = _CPU_TILE if query.device.type == "cpu" else _ACCELERATOR_TILE
    cloud_step = min(clouds, max(1, budget // (rows * columns)))
    row_step = rows if cloud_step > 1 else min(rows, max(1, budget // columns))
    memory = query.new_empty(3, cloud_step, row_step, columns)
    for start in range(0, clouds, cloud_step):
        cloud = slice(start, min(start + cloud_step, clouds))
        for first in range(0, rows, row_step):
            row = slice(first, min(first + row_step, rows))
            terms = memory[:, : cloud.stop - cloud.start, : row.stop - row.start]
            # Without reduction, this loss is the square of the difference, in one pass.
            coordinates = _coordinates(query[cloud, row], points[cloud])
            torch.ops.aten.mse_loss.out(*coordinates, reduction=0, out=terms)
            yield cloud, row, terms[0].add_(terms[1]).add_(terms[2])


def pair_distance(points: Tensor, partners: Tensor, squared: bool) -> Tensor:
    """``(..., 3)`` twice -> ``(...)``: squared or plain distance of corresponding points."""
    distances = (points - partners).square().sum(-1)
    return distances if squared else root(distances)


def root(squared_distances: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, one of its subgradients as a norm, instead of NaN."""
    apart = squared_distances != 0  # NaN stays NaN
    return torch.where(apart, squared_distances, 1.0).sqrt() * apart
