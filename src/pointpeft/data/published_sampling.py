"""Which points of a cloud a model sees, as the published training and test loops choose them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pointpeft.data.transforms import pool_size
from pointpeft.ops import farthest_point_sample, gather_points

__all__ = ["PublishedPoints", "PublishedSubset"]


@dataclass(frozen=True)
class PublishedPoints:
    """Farthest points of every cloud, as at test time; the sampler never takes points near 0.

    Attributes:
        num_points: points to keep.
    """

    num_points: int

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(B, N, 3)`` -> ``(B, num_points, 3)`` in farthest-point order, or all if N is less."""
        count = min(self.num_points, points.shape[1])
        return gather_points(points, farthest_point_sample(points, count, skip_near_origin=True))


@dataclass(frozen=True)
class PublishedSubset:
    """Points of a training cloud: somewhat more farthest points, of which a part is drawn.

    Farthest-point sampling begins at a random point, since the points of a cloud are shuffled
    first; the ranks that are drawn are the same for all clouds of a batch.

    Attributes:
        num_points: points to keep.
    """

    num_points: int

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(B, N, 3)`` -> ``(B, num_points, 3)`` in random order, or all if N is less."""
        device = points.device if generator is None else generator.device
        keys = torch.rand(points.shape[:2], generator=generator, device=device)
        shuffled = gather_points(points, keys.argsort(dim=1).to(points.device))
        candidates = PublishedPoints(pool_size(self.num_points))(shuffled)
        ranks = torch.randperm(candidates.shape[1], generator=generator, device=device)
        return candidates[:, ranks[: self.num_points].to(points.device)]
