"""A cloud cut into boxes of equally many points, and how near each box may be to a target."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Boxes", "cut"]


@dataclass(frozen=True)
class Boxes:
    """Slabs along x, each of bars along y, each of boxes along z: ``P`` of each, ``M = P**3``.

    Attributes:
        index: ``(M, S)`` index in the cloud of each point of each box. Places left over repeat the
            last point along x.
        points: ``(3, M, S)`` their coordinates.
        ends: Lowest and highest x of the slabs ``(P, 1, 1, 1)``, y of the bars ``(P, P, 1, 1)``,
            and z of the boxes ``(P, P, P, 1)``.
    """

    index: NDArray
    points: NDArray
    ends: tuple[tuple[NDArray, NDArray], ...]

    def lower_bound(self, targets: NDArray) -> NDArray:
        """``(3, T)`` targets -> ``(M, T)``: no squared distance of a point of a box is smaller.

        Not even by rounding: the bound is computed as the distance is, and every step of that is
        monotonic.
        """
        x, y, z = (_gap(*ends, target) for ends, target in zip(self.ends, targets, strict=True))
        return np.add(x + y, z, out=z).reshape(-1, targets.shape[1])


def _gap(low: NDArray, high: NDArray, target: NDArray) -> NDArray:
    """Squared distance of each target to the nearer end, 0 between the ends."""
    gap = low - target
    np.maximum(gap, target - high, out=gap)
    np.maximum(gap, 0, out=gap)
    return np.multiply(gap, gap, out=gap)


def cut(cloud: NDArray, points_per_box: int) -> Boxes:
    """Cut a cloud ``(N, 3)`` at the quantiles of x, these parts at those of y, and these of z."""
    parts = max(1, round((len(cloud) / points_per_box) ** (1 / 3)))
    places = -(-len(cloud) // parts**3) * parts**3
    index = cloud[:, 0].argsort()
    index = np.concatenate([index, index[-1:].repeat(places - len(cloud))])
    for axis in (1, 2):
        index = index.reshape(parts**axis, -1)
        order = cloud[:, axis].take(index).argsort(axis=1)
        index = np.take_along_axis(index, order, axis=1)
    index = index.reshape(parts**3, -1)
    points = np.ascontiguousarray(cloud.take(index, axis=0).transpose(2, 0, 1))
    grid = points.reshape(3, parts, parts, parts, -1)
    return Boxes(index, points, tuple(_ends(grid[axis], axis) for axis in range(3)))


def _ends(values: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    """Minimum and maximum of all that the first ``axis + 1`` of four axes have in common."""
    within = tuple(range(axis + 1, 4))
    return values.min(within, keepdims=True), values.max(within, keepdims=True)
