"""Storeys on each other, roofs and towers."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import extrude, rotation
from pointpeft.data.procedural.parts import ball, block, log_uniform, outline, rod, taper
from pointpeft.data.procedural.programs._shared import Part, mirrored, rectangle

__all__ = ["building"]


def building(rng: Generator) -> list[Part]:
    """Storeys that recede, wings, columns, roofs and towers."""
    w, d, y = rng.uniform(0.4, 1.2), rng.uniform(0.4, 1.2), 0.0
    parts: list[Part] = []
    plan = rectangle() if rng.random() < 0.7 else outline(rng)
    for _ in range(int(rng.integers(1, 5))):
        h = log_uniform(rng, 0.1, 1.5)
        parts.append(("storey", extrude(plan, h).scaled([w, 1, d]).moved([0, y, 0])))
        w, d, y = w * rng.uniform(0.6, 1.05), d * rng.uniform(0.6, 1.05), y + h
    if rng.random() < 0.6:
        roof = rng.choice(np.array(["gable", "hip", "dome"]))
        if roof == "gable":
            gable = extrude(np.array([[-1, -1], [1, -1], [0, 1.0]]), 2.0)
            gable = gable.turned(rotation([1, 0, 0], -np.pi / 2)).moved([0, 1, 1])
            mesh = gable.scaled([1.1 * w, 0.3, d]).moved([0, y, 0])
        elif roof == "hip":
            mesh = taper(extrude(plan, 1.0), float(rng.uniform(0, 0.6)))
            mesh = mesh.scaled([1.1 * w, rng.uniform(0.2, 1.2), 1.1 * d]).moved([0, y, 0])
        else:
            mesh = ball(rng).scaled([0.9 * w, rng.uniform(0.2, 0.7), 0.9 * d]).moved([0, y, 0])
        parts.append(("roof", mesh))
    for _ in range(int(rng.integers(0, 3))):
        tower = (rod(rng) if rng.random() < 0.5 else block()).scaled([0.12, y, 0.12])
        tower = tower.moved([rng.uniform(0, 1) * w, y, rng.uniform(-1, 1) * d])
        parts += [("tower", tower), ("tower", mirrored(tower))]
    return parts
