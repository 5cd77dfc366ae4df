"""Which points of a cloud a model sees, as the published training and test loops choose them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pointpeft.data.transforms import (
    Compose,
    RandomRotation,
    RandomScaleShift,
    RandomSubset,
    Transform,
    pool_size,
    random_order,
    recipe,
)
from pointpeft.ops import farthest_point_sample, gather_points

__all__ = ["PublishedPoints", "PublishedSubset", "UnitBall", "published_recipe"]


@dataclass(frozen=True)
class PublishedPoints:
    """Farthest points of every cloud, as at test time; the sampler never takes points near 0.

    Attributes:
        num_points: points to keep.
    """

    num_points: int

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(B, N, 3)`` -> ``(B, num_points, 3)`` in farthest-point order, or all if N is less."""
        return gather_points(points, self.choose(points))

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Places of the chosen points, ``(B, num_points)``."""
        count = min(self.num_points, points.shape[1])
        return farthest_point_sample(points, count, skip_near_origin=True)


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
        return gather_points(points, self.choose(points, generator))

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Places of the chosen points, ``(B, num_points)``."""
        order = random_order(points, generator)
        candidates = PublishedPoints(pool_size(self.num_points)).choose(
            gather_points(points, order)
        )
        device = points.device if generator is None else generator.device
        ranks = torch.randperm(candidates.shape[1], generator=generator, device=device)
        return order.gather(1, candidates[:, ranks[: self.num_points].to(points.device)])


@dataclass(frozen=True)
class UnitBall:
    """Every cloud moved to its mean and scaled to a largest norm of 1."""

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(B, N, 3)`` -> ``(B, N, 3)``."""
        centred = points - points.mean(dim=1, keepdim=True)
        return centred / centred.norm(dim=2).amax(dim=1)[:, None, None]


def published_recipe(name: str | None, num_points: int, task: str = "classification") -> Compose:
    """The training transform of the published protocol, for clouds with all their points.

    Differs from :func:`pointpeft.data.transforms.recipe` in how points are chosen, and in turning
    a whole batch by one angle with "scale-rotate". Pre-training draws points without farthest-point
    sampling and normalises what it drew; part segmentation finds its points drawn already.

    Args:
        name: as there.
        num_points: points the model sees.
        task: "classification", "part_segmentation" or "pretraining".
    """
    augmentation: tuple[Transform, ...] = recipe(name, num_points).steps[1:]
    if name == "scale-rotate":
        augmentation = (RandomScaleShift((0.9, 1.1), 0.0), RandomRotation("y", per_sample=False))
    chosen: dict[str, tuple[Transform, ...]] = {
        "classification": (PublishedSubset(num_points),),
        "part_segmentation": (),
        "pretraining": (RandomSubset(num_points, None), UnitBall()),
    }
    return Compose((*chosen[task], *augmentation))
