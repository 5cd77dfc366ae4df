"""The index searches of :mod:`pointpeft.ops` in the operators of PyTorch alone.

So that a file runs where this library is not installed. What is chosen is the same, index by index.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from pointpeft.ops.sampling import initial_distances

__all__ = ["DECOMPOSITIONS"]


def _farthest_point_sample(points: Tensor, num_samples: int, skip_near_origin: bool) -> Tensor:
    """``(B, N, 3) -> (B, num_samples)``: see :func:`pointpeft.ops.farthest_point_sample`.

    The loop carries the points, which it does not change: what it would only look at from outside
    gets lost where a graph has several loops.
    """
    nearest = initial_distances(*points.unbind(-1), skip_near_origin)
    last = torch.zeros_like(nearest[:, :1], dtype=torch.int64)
    chosen = last.expand(-1, num_samples).clone()
    step = torch.ones((), dtype=torch.int64, device=points.device)

    def goes_on(
        step: Tensor, last: Tensor, nearest: Tensor, chosen: Tensor, points: Tensor
    ) -> Tensor:
        return step < num_samples

    def choose(
        step: Tensor, last: Tensor, nearest: Tensor, chosen: Tensor, points: Tensor
    ) -> tuple[Tensor, ...]:
        dx, dy, dz = (axis - axis.gather(1, last) for axis in points.unbind(-1))
        nearest = torch.minimum(nearest, dx * dx + dy * dy + dz * dz)
        last = nearest.argmax(1, keepdim=True)
        places = torch.arange(num_samples, device=points.device)
        return step + 1, last, nearest, torch.where(places == step, last, chosen), points.clone()

    return while_loop(goes_on, choose, (step, last, nearest, chosen, points))[3]


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
