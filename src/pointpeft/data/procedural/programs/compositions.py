"""Solids put together without a plan."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import rotation
from pointpeft.data.procedural.parts import solid
from pointpeft.data.procedural.programs._shared import Part, mirrored

__all__ = ["composition", "growth"]


def composition(rng: Generator) -> list[Part]:
    """A few unrelated solids that overlap (the programs of arXiv 2411.17467)."""
    parts = []
    for _ in range(int(rng.integers(1, 8))):
        turn = rotation(rng.normal(size=3), float(rng.uniform(0, np.pi)))
        if rng.random() < 0.5:
            turn = np.eye(3)[rng.permutation(3)]
        parts.append(("solid", solid(rng).turned(turn).moved(rng.uniform(-0.7, 0.7, 3))))
    return parts


def growth(rng: Generator) -> list[Part]:
    """Solids added one beside the other, along random axes, some of them in mirrored pairs."""
    parts: list[Part] = [("core", solid(rng))]
    for _ in range(int(rng.integers(1, 6))):
        host = parts[int(rng.integers(len(parts)))][1].vertices
        new = solid(rng).scaled(float(rng.uniform(0.2, 0.9)))
        axis, sign = int(rng.integers(3)), float(rng.choice([-1, 1]))
        reach = sign * (np.abs(sign * host[:, axis]).max() + np.abs(new.vertices[:, axis]).max())
        shift = host.mean(axis=0) + rng.uniform(-0.2, 0.2, 3)
        shift[axis] = 0.9 * reach
        new = new.moved(shift)
        parts.append(("addition", new))
        if rng.random() < 0.4:
            parts.append(("addition", mirrored(new)))
    return parts
