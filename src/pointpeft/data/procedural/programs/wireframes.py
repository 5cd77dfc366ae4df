"""Edges without faces."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import sweep
from pointpeft.data.procedural.parts import bar, log_uniform, solid, surface
from pointpeft.data.procedural.programs._shared import Part, circle

__all__ = ["wireframe"]


def wireframe(rng: Generator) -> list[Part]:
    """Edges only: of a box grid, a drum, a bent lattice."""
    thickness = rng.uniform(0.015, 0.06)
    kind = rng.integers(3)
    if kind == 0:
        ends = np.array([[-1, 1]] * 3) * log_uniform(rng, 0.4, 1.2, 3)[:, None]
        corner = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
        pairs = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
        rods = [bar(corner[a], corner[b], thickness) for a, b in pairs]
    elif kind == 1:
        count = int(rng.integers(4, 13))
        low, high = circle(count, -1.0, 1.0), circle(count, 1.0, rng.uniform(0.3, 1.2))
        high = np.roll(high, int(rng.integers(3)), axis=0)
        rods = [bar(a, b, thickness) for a, b in zip(low, high, strict=True)]
        rods += [sweep(end, thickness, sides=6, closed=True) for end in (low, high)]
    else:
        count, form = int(rng.integers(3, 6)), surface(rng)
        lines = form.vertices.reshape(15, 15, 3)
        keep = np.linspace(0, 14, count).astype(int)
        rods = [sweep(line, thickness, 5) for k in keep for line in (lines[k], lines[:, k])]
    parts = [("wire", mesh) for mesh in rods]
    if rng.random() < 0.3:
        parts.append(("content", solid(rng).scaled(0.6)))
    return parts
