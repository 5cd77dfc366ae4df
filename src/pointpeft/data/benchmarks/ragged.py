"""Clouds of different sizes, of which a model sees a random draw of points."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pointpeft.data.shape_data import ShapeData, ShapeSplit

__all__ = ["RaggedSplit", "redraw"]


@dataclass(frozen=True)
class RaggedSplit(ShapeSplit):
    """Clouds of different sizes, of which a fixed number of points is drawn with replacement.

    ``points`` and ``seg`` hold one such draw.

    Attributes:
        clouds: all points of each shape, ``(N_s, 3)``.
        parts: their part labels, ``(N_s,)``.
    """

    clouds: tuple[np.ndarray, ...] = ()
    parts: tuple[np.ndarray, ...] = ()

    def draw(self, numbers: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points ``(B, N, 3)`` and labels ``(B, N)`` of draws that depend on nothing else.

        Args:
            numbers: ``k * S + i`` is draw ``k`` of shape ``i`` of the ``S`` shapes.
            seed: of all draws.
        """
        points, seg = [], []
        for number in numbers:
            shape, generator = number % len(self), np.random.default_rng((seed, number))
            chosen = generator.integers(len(self.clouds[shape]), size=self.points.shape[1])
            points.append(self.clouds[shape][chosen])
            seg.append(self.parts[shape][chosen])
        return np.stack(points), np.stack(seg)

    def redrawn(self, seed: int) -> "RaggedSplit":
        """The same clouds; ``points`` and ``seg`` hold the first draw of another seed."""
        points, seg = self.draw(range(len(self)), seed)
        return replace(self, points=points, seg=seg)


def redraw(data: ShapeData, seed: int) -> ShapeData:
    """The same data with the first draw of ``seed`` where clouds differ in size."""
    if not isinstance(data.train, RaggedSplit) or not isinstance(data.test, RaggedSplit):
        return data
    test = data.test.redrawn(seed)
    return replace(data, train=data.train.redrawn(seed), val=test, test=test)
