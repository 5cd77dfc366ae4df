"""The index searches of :mod:`pointpeft.ops` in the operators of PyTorch alone.

So that a file runs where this library is not installed. What is chosen is the same, index by index.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pointpeft.ops.sampling import initial_distances

__all__ = ["DECOMPOSITIONS"]


def _farthest_point_sample(points: Tensor, num_samples: int, skip_near_origin: bool) -> Tensor:
    """``(B, N, 3) -> (B, num_samples)``: see :func:`pointpeft.ops.farthest_point_sample`.

    Step by step, without a loop in the graph: a graph of several loops is refused by PyTorch.
    """
    x, y, z = points.unbind(-1)
    nearest = initial_distances(x, y, z, skip_near_origin)
    chosen = [torch.zeros_like(nearest[:, :1], dtype=torch.int64)]
    for _ in range(num_samples - 1):
        dx, dy, dz = (axis - axis.gather(1, chosen[-1]) for axis in (x, y, z))
        nearest = torch.minimum(nearest, dx * dx + dy * dy + dz * dz)
        chosen.append(nearest.argmax(1, keepdim=True))
    return torch.cat(chosen, dim=1)


def _knn(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``(B, Q, 3)``, ``(B, N, 3)`` -> twice ``(B, Q, k)``: see :func:`pointpeft.ops.knn`."""
    distances = (query.unsqueeze(2) - points.unsqueeze(1)).square()
    dx, dy, dz = distances.unbind(-1)
    distances, order = (dx + dy + dz).sort(dim=-1, stable=True)
    return distances[..., :k], order[..., :k]


DECOMPOSITIONS: dict[torch._ops.OpOverload, Callable] = {
    torch.ops.pointpeft.farthest_point_sample.default: _farthest_point_sample,
    torch.ops.pointpeft.knn.default: _knn,
}
"""What stands for our operators."""
