"""Augmentation of batches of clouds `(B, N, 3)`, drawn anew for every cloud of a batch.

Every transform is called as `transform(points, generator)`. The generator may be None, which means
the global one of torch; random numbers are drawn on its device and follow the points.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pointpeft.data.scanning import ScanConfig, simulate_scan
from pointpeft.errors import ConfigError, DataError

__all__ = [
    "SCAN",
    "Choice",
    "Compose",
    "FirstPoints",
    "RandomRotation",
    "RandomScaleShift",
    "RandomScan",
    "RandomSubset",
    "Transform",
    "pool_size",
    "random_order",
    "recipe",
]

SCAN = "scan"
"""The recipe that scans all stored points of a shape: its results are other data."""
_POOL = 75 / 64
"""Ranks drawn from per point seen, below 8,192 points: 1,200 of 1,024, 2,400 of 2,048 and so on."""
_NO_POOL_FROM = 8192


class Transform(Protocol):
    """Anything that takes clouds `(B, N, 3)` to clouds `(B, M, 3)`."""

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Transformed copy of `points`."""
        ...


@runtime_checkable
class Choice(Protocol):
    """A transform that keeps some of the points as they are."""

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Places of the chosen points, `(B, M)`."""
        ...

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The chosen points, `(B, M, 3)`; errors are those of `choose`."""
        return _take(points, self.choose(points, generator))


@dataclass(frozen=True)
class RandomScaleShift:
    """Scale each axis by its own factor, then shift each axis (Point-MAE: [2/3, 3/2], 0.2).

    Attributes:
        scale: Smallest and largest factor.
        shift: Largest shift in either direction, in the unit of the clouds.
        per_axis: False scales a cloud by one factor, which keeps its proportions.
    """

    scale: tuple[float, float] = (2 / 3, 3 / 2)
    shift: float = 0.2
    per_axis: bool = True

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Points `(B, N, 3)` scaled and shifted, cloud by cloud."""
        low, high = self.scale
        drawn = _uniform((2, len(points), 1, 3), points, generator)
        factor = low + (high - low) * (drawn[0] if self.per_axis else drawn[0, ..., :1])
        offset = self.shift * (2 * drawn[1] - 1)
        return points * factor + offset


@dataclass(frozen=True)
class RandomRotation:
    """Turn each cloud about one axis by an angle uniform in [0, 2 pi).

    Attributes:
        axis: The axis that stays.
        per_sample: False turns the whole batch by one angle, as the paper's Point-PEFT does.
    """

    axis: Literal["x", "y", "z"] = "y"
    per_sample: bool = True

    def __post_init__(self) -> None:
        if self.axis not in ("x", "y", "z"):
            raise ConfigError(f"axis={self.axis!r}: expected 'x', 'y' or 'z'")

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Points `(B, N, 3)` turned, cloud by cloud."""
        count = len(points) if self.per_sample else 1
        angle = 2 * torch.pi * _uniform((count,), points, generator)
        cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
        fixed = "xyz".index(self.axis)
        first, second = points[..., (fixed + 1) % 3], points[..., (fixed + 2) % 3]
        turned = points.clone()  # products by element: matrix products may run in half precision
        turned[..., (fixed + 1) % 3] = cosine * first - sine * second
        turned[..., (fixed + 2) % 3] = sine * first + cosine * second
        return turned


@dataclass(frozen=True)
class RandomScan:
    """See each cloud from one side, as `simulate_scan` does, centred and in the unit ball again.

    Attributes:
        num_points: Points to give; if the scan has fewer, some are repeated.
        config: How it is scanned.
    """

    num_points: int
    config: ScanConfig = ScanConfig()  # noqa: RUF009 - frozen

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scans `(B, num_points, 3)` of the clouds `(B, N, 3)`.

        Raises:
            DataError: A cloud cannot be scanned.
        """
        draws = 2**31 * _uniform((len(points),), points, generator, dtype=torch.float64)
        clouds = points.detach().float().cpu().numpy()
        pairs = zip(clouds, map(int, draws.tolist()), strict=True)
        scans = [self._scan(cloud, np.random.default_rng(seed)) for cloud, seed in pairs]
        return torch.from_numpy(np.stack(scans)).to(points)

    def _scan(self, cloud: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        scan = simulate_scan(cloud, rng, self.config)
        rounds = -(-self.num_points // len(scan))
        order = np.concatenate([rng.permutation(len(scan)) for _ in range(rounds)])
        scan = scan[order[: self.num_points]]
        scan -= scan.mean(axis=0)
        return scan / np.linalg.norm(scan, axis=1).max()


@dataclass(frozen=True)
class FirstPoints(Choice):
    """Keep the first points: of a cloud in farthest point order, its most even subsample."""

    num_points: int

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The first places, `(B, num_points)`.

        Raises:
            DataError: The clouds have fewer points.
        """
        _check_enough(points, self.num_points)
        return torch.arange(self.num_points, device=points.device).expand(len(points), -1)


@dataclass(frozen=True)
class RandomSubset(Choice):
    """Keep points chosen at random, without replacement, among the first `pool` ones.

    Attributes:
        num_points: Points to keep.
        pool: Ranks to choose from, as far as they are stored; None: all of them.
    """

    num_points: int
    pool: int | None

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool < self.num_points:
            raise ConfigError(f"pool={self.pool} is below num_points={self.num_points}")

    def choose(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Places in random order, `(B, num_points)`, other ones for every cloud.

        Raises:
            DataError: The clouds have fewer points.
        """
        _check_enough(points, self.num_points)
        return random_order(points[:, : self.pool], generator)[:, : self.num_points]


@dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    steps: tuple[Transform, ...] = ()

    def __call__(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The clouds after all steps."""
        for step in self.steps:
            points = step(points, generator)
        return points

    def with_labels(
        self, points: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The clouds after all steps, and the labels `(B, N)` of the points that are left.

        Raises:
            ConfigError: A step makes other points, of which no labels are known.
        """
        for step in self.steps:
            if isinstance(step, RandomScan):
                raise ConfigError(
                    "augmentation 'scan' moves points off the surface: no part labels"
                )
            if isinstance(step, Choice):
                chosen = step.choose(points, generator)
                points, labels = _take(points, chosen), labels.gather(1, chosen)
            else:
                points = step(points, generator)
        return points, labels


def recipe(name: str | None, num_points: int) -> Compose:
    """The training transform of a published recipe, for clouds in farthest point order.

    Args:
        name: "scale-shift" (Point-MAE; also for None), "rotate" (about y; its variant for
            ScanObjectNN), "scale-shift-rotate" (both, as PCP-MAE is pre-trained), "scale-rotate"
            (Point-PEFT), "part-segmentation" (Point-MAE's, which keeps proportions), "scan"
            (simulated scans from one side) or "none".
        num_points: Points the model sees.

    Raises:
        ConfigError: There is no such recipe.
    """
    name = name or "scale-shift"
    if name == "none":
        return Compose((FirstPoints(num_points),))
    if name == SCAN:
        return Compose((RandomScan(num_points),))
    if name not in _RECIPES:
        known = ", ".join((*_RECIPES, SCAN, "none"))
        raise ConfigError(f"augmentation {name!r}: expected one of {known}")
    subset = RandomSubset(num_points, pool_size(num_points))
    return Compose((subset, *_RECIPES[name]))


_RECIPES: dict[str, tuple[Transform, ...]] = {
    "scale-shift": (RandomScaleShift(),),
    "rotate": (RandomRotation("y"),),
    "scale-shift-rotate": (RandomScaleShift(), RandomRotation("y")),
    "scale-rotate": (RandomScaleShift((0.9, 1.1), 0.0), RandomRotation("y")),
    "part-segmentation": (RandomScaleShift((0.8, 1.25), 0.1, per_axis=False),),
}


def random_order(points: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Places `(B, N)` of all points of clouds `(B, N, 3)`, in another order for every cloud."""
    keys = _uniform(points.shape[:2], points, generator, dtype=torch.float64)
    return keys.argsort(dim=1)


def pool_size(num_points: int) -> int:
    """Ranks of a cloud in farthest point order that training draws ``num_points`` from."""
    if num_points >= _NO_POOL_FROM:
        return num_points
    return int(num_points * _POOL)


def _check_enough(points: Tensor, num_points: int) -> None:
    if points.shape[1] < num_points:
        raise DataError(f"clouds of {points.shape[1]} points, {num_points} are asked for")


def _take(points: Tensor, places: Tensor) -> Tensor:
    """Points `(B, M, 3)` at the places `(B, M)` of their clouds."""
    return points.gather(1, places.unsqueeze(-1).expand(-1, -1, 3))


def _uniform(
    shape: tuple[int, ...],
    like: Tensor,
    generator: torch.Generator | None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1), drawn on the generator's device, with the device of `like`."""
    device = like.device if generator is None else generator.device
    drawn = torch.rand(shape, generator=generator, device=device, dtype=dtype or like.dtype)
    return drawn.to(like.device)
