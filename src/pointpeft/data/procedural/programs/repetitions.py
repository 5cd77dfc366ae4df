"""One thing again and again: about an axis, along a curve, in a grid."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import sweep
from pointpeft.data.procedural.parts import bar, block, curve, foil, leaf, ring, rod, solid, tube
from pointpeft.data.procedural.programs._shared import Y_TO_Z, Part, around

__all__ = ["array", "radial"]


def radial(rng: Generator) -> list[Part]:
    """The same parts again and again about an axis: wheel, fan, flower, crown, gear."""
    parts: list[Part] = []
    if rng.random() < 0.7:
        parts.append(("hub", rod(rng).scaled([*2 * [rng.uniform(0.1, 0.4)], 0.3]).turned(Y_TO_Z)))
    if rng.random() < 0.5:
        parts.append(("rim", ring(rng)))
    arm = rng.choice(np.array([foil, leaf, solid, tube], dtype=object))(rng)
    arm = arm.scaled(rng.uniform(0.2, 0.6, 3)).moved([rng.uniform(0.0, 0.8), 0, 0])
    parts += [("arm", one) for one in around(arm, int(rng.integers(3, 13)))]
    if rng.random() < 0.5:
        parts = [(name, mesh.turned(Y_TO_Z)) for name, mesh in parts]
    if rng.random() < 0.4:
        end = np.array([0, -rng.uniform(0.5, 2.0), 0])
        parts.append(("stem", bar(0 * end, end, rng.uniform(0.02, 0.1))))
    return parts


def array(rng: Generator) -> list[Part]:
    """Copies along a curve or in a grid: chain, fence, keyboard, row of blocks, city."""
    item = solid(rng)
    if rng.random() < 0.5:
        path = curve(rng, count=int(rng.integers(4, 14)))
        if rng.random() < 0.5:
            path = path * [0, 1, 0]
        item = item.scaled(1.5 / len(path))
        parts = [("item", item.moved(point)) for point in path]
        if rng.random() < 0.5:
            parts.append(("spine", sweep(path, 0.05)))
        return parts
    columns, rows = rng.integers(2, 7, 2)
    item = item.scaled(0.5 * rng.uniform(0.6, 1.1))
    stretch = np.ones((columns, rows))
    if rng.random() < 0.5:
        stretch = rng.uniform(0.5, 3.0, (columns, rows))
    parts = [
        ("item", item.moved([0, 0.5, 0]).scaled([1, stretch[i, k], 1]).moved([i, 0, k]))
        for i in range(columns)
        for k in range(rows)
    ]
    if rng.random() < 0.7:
        ground = block().scaled([columns / 2, 0.1, rows / 2])
        parts.append(("ground", ground.moved([(columns - 1) / 2, 0, (rows - 1) / 2])))
    return parts
