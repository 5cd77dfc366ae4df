"""A stem or a handle with something at its end."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import rotation
from pointpeft.data.procedural.parts import (
    ball,
    bar,
    block,
    foil,
    limb,
    log_uniform,
    prism,
    rod,
    solid,
    surface,
    tube,
    vessel,
)
from pointpeft.data.procedural.programs._shared import Part, circle

__all__ = ["stand", "tool"]


def stand(rng: Generator) -> list[Part]:
    """A foot, one or more stems, straight, bent or jointed, and a head."""
    height, lean = rng.uniform(0.8, 2.5), rng.uniform(-0.6, 0.6)
    foot = rod(rng).scaled([rng.uniform(0.2, 0.7), rng.uniform(0.02, 0.15), rng.uniform(0.2, 0.7)])
    parts = [("foot", foot)]
    joints = np.array([[0, 0, 0], [lean, rng.uniform(0.3, 0.9) * height, 0], [0, height, 0]])
    joints[2, 0] = rng.choice([0, lean, rng.uniform(-1, 1)])
    parts.append(("stem", limb(rng, joints, float(log_uniform(rng, 0.02, 0.1)))))
    head = rng.choice(np.array([vessel, ball, rod, prism, surface, block], dtype=object))
    mesh = (head() if head is block else head(rng)).scaled(rng.uniform(0.1, 0.8, 3))
    if rng.random() < 0.4:
        mesh = mesh.turned(rotation([0, 0, 1], float(rng.uniform(-2, 2))))
    spots = joints[2] + circle(int(rng.choice([1, 1, 1, 3, 5])), 0.0, 0.5)
    for spot in spots:
        parts.append(("head", mesh.moved(spot)))
        if len(spots) > 1:
            parts.append(("stem", bar(joints[2], spot, 0.03)))
    return parts


def tool(rng: Generator) -> list[Part]:
    """A long handle with a head, a guard, prongs or a blade; lying, standing or slanting."""
    length = rng.uniform(0.5, 1.5)
    handle = tube(rng) if rng.random() < 0.3 else rod(rng)
    handle = handle.scaled([rng.uniform(0.05, 0.15), length, rng.uniform(0.05, 0.15)])
    parts = [("handle", handle)]
    kind = rng.integers(4)
    if kind == 0:
        head = foil(rng).scaled([rng.uniform(0.5, 2.0), 1, rng.uniform(0.3, 1.0)])
        parts.append(("blade", head.turned(rotation([0, 0, 1], np.pi / 2)).moved([0, length, 0])))
        guard = block().scaled([rng.uniform(0.1, 0.4), 0.04, 0.08])
        parts.append(("guard", guard.moved([0, length, 0])))
    elif kind == 1:
        parts.append(("head", solid(rng).scaled(rng.uniform(0.2, 0.7)).moved([0, length, 0])))
    elif kind == 2:
        for x in np.linspace(-0.2, 0.2, int(rng.integers(2, 6))):
            start, end = np.array([x, length, 0]), np.array([x, length + 0.5, 0])
            parts.append(("prong", bar(start, end, 0.03)))
        parts.append(("bridge", block().scaled([0.25, 0.05, 0.05]).moved([0, length, 0])))
    else:
        barrel = rod(rng).scaled([0.08, rng.uniform(0.5, 1.5), 0.08])
        barrel = barrel.turned(rotation([0, 0, 1], -np.pi / 2))
        parts.append(("barrel", barrel.moved([0.4, length, 0])))
        stock = block().scaled([rng.uniform(0.2, 0.6), 0.12, 0.07])
        parts.append(("stock", stock.moved([-0.2, 0.9 * length, 0])))
    if rng.random() < 0.6:
        tilt = rotation([0, 0, 1], float(rng.choice([np.pi / 2, rng.uniform(-1, 1)])))
        parts = [(name, mesh.turned(tilt)) for name, mesh in parts]
    return parts
