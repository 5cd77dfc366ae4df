"""Farthest point sampling of one large cloud on a CPU, exact without looking at every point.

It goes in rounds. A round samples among the candidates alone, the points farther from all samples
than a limit, for as long as the farthest candidate is beyond the limit: no other point is. Then
the new samples are told to the boxes of points that they may be nearer to than the old ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Boxes", "cut", "sample_large"]


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


_POINTS_PER_BOX = 128
# The candidates of a round lie in one of so many boxes: fewer boxes make more rounds, but short.
_BOXES_PER_CANDIDATE = 8
_MOST_PER_ROUND = 256  # bounds the memory
_BOXES_AT_A_TIME = 256  # keeps their points in the cache


def sample_large(cloud: NDArray, nearest: NDArray, chosen: NDArray) -> None:
    """Fill ``chosen (m,)``, whose first entry is set.

    Args:
        cloud: ``(N, 3)``.
        nearest: ``(N,)``, infinite, or negative for points that may not be chosen.
        chosen: int64.
    """
    distances = _Distances(cloud, nearest)
    first, last = 0, 1
    while last < len(chosen):
        distances.tell(cloud[chosen[first:last]].T)
        if distances.farthest.max() <= 0:  # only copies of samples are left
            chosen[last:] = distances.lowest_farthest()
            return
        limit = distances.limit()
        candidates, to_sample = distances.beyond(limit)
        places = chosen[last : last + _MOST_PER_ROUND]
        count = _sample(cloud[candidates].T, to_sample, limit, places)
        first, last = last, last + count
        chosen[first:last] = candidates[chosen[first:last]]


def _sample(points: NDArray, nearest: NDArray, limit: float, chosen: NDArray) -> int:
    """Choose among ``(3, n)`` while one is beyond the limit; returns how many were chosen."""
    points = np.ascontiguousarray(points)
    offsets = np.empty_like(points)
    x, y, z = offsets
    for step in range(len(chosen)):
        farthest = nearest.argmax()
        if nearest[farthest] <= limit:
            return step
        chosen[step] = farthest
        np.subtract(points, points[:, farthest : farthest + 1], out=offsets)
        np.multiply(offsets, offsets, out=offsets)
        np.add(x, y, out=x)
        np.add(x, z, out=x)
        np.minimum(nearest, x, out=nearest)
    return len(chosen)


class _Distances:
    """Squared distances of all points to their nearest sample, in boxes.

    Attributes:
        nearest: ``(M, S)``.
        farthest: ``(M,)`` the largest of each box.
    """

    def __init__(self, cloud: NDArray, nearest: NDArray) -> None:
        self.boxes = cut(cloud, _POINTS_PER_BOX)
        self.nearest = nearest[self.boxes.index]
        self.farthest = self.nearest.max(1)
        shape = (6, _BOXES_AT_A_TIME, self.nearest.shape[1])
        self.memory = np.empty(shape, self.nearest.dtype)

    def lowest_farthest(self) -> int:
        """The lowest index of the points that are the farthest."""
        return int(self.boxes.index[self.nearest == self.farthest.max()].min())

    def limit(self) -> float:
        """A distance that the farthest points of some boxes are beyond, and so the farthest."""
        place = len(self.farthest) - 1 - len(self.farthest) // _BOXES_PER_CANDIDATE
        top = self.farthest.max()
        return min(np.partition(self.farthest, place)[place], np.nextafter(top, np.zeros_like(top)))

    def beyond(self, limit: float) -> tuple[NDArray, NDArray]:
        """Indices, ascending, and distances of all points farther than the limit."""
        live = np.flatnonzero(self.farthest > limit)
        nearest = self.nearest[live]
        found = nearest > limit
        index = self.boxes.index[live][found]
        order = index.argsort()
        return index[order], nearest[found][order]

    def tell(self, samples: NDArray) -> None:
        """Take account of new samples ``(3, n)``."""
        reached = self.boxes.lower_bound(samples) < self.farthest[:, None]
        box, sample = np.divmod(np.flatnonzero(reached), samples.shape[1])
        counts = np.bincount(box, minlength=len(self.farthest))
        begin = np.cumsum(counts) - counts
        # Boxes with many new samples come first, so that those with a further one are the first.
        order = np.argsort(-counts)[: np.count_nonzero(counts)]
        samples = samples.take(sample, axis=1)
        for start in range(0, len(order), _BOXES_AT_A_TIME):
            boxes = order[start : start + _BOXES_AT_A_TIME]
            self._update(boxes, counts[boxes], begin[boxes], samples)

    def _update(self, boxes: NDArray, counts: NDArray, begin: NDArray, samples: NDArray) -> None:
        """Tell each box ``counts`` samples from ``begin`` on; ``counts`` descend."""
        *points, nearest, total, term = self.memory[:, : len(boxes)]
        for source, target in zip(
            (*self.boxes.points, self.nearest), (*points, nearest), strict=True
        ):
            source.take(boxes, axis=0, out=target, mode="clip")  # no copy, other than "raise"
        for turn in range(counts[0]):
            size = np.count_nonzero(counts > turn)
            place = samples.take(begin[:size] + turn, axis=1)[..., None]
            _square_difference(points[0][:size], place[0], total[:size])
            for axis in (1, 2):
                _square_difference(points[axis][:size], place[axis], term[:size])
                np.add(total[:size], term[:size], out=total[:size])
            np.minimum(nearest[:size], total[:size], out=nearest[:size])
        self.nearest[boxes] = nearest
        self.farthest[boxes] = nearest.max(1)


def _square_difference(values: NDArray, others: NDArray, out: NDArray) -> None:
    np.subtract(values, others, out=out)
    np.multiply(out, out, out=out)
