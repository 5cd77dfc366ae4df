"""Long bodies on wheels or wings."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Mesh, revolve, rotation
from pointpeft.data.procedural.parts import (
    ball,
    bend,
    block,
    deform,
    foil,
    ring,
    rod,
    solid,
    taper,
    twist,
)
from pointpeft.data.procedural.programs._shared import Y_TO_Z, Part, around

__all__ = ["vehicle", "winged"]


def vehicle(rng: Generator) -> list[Part]:
    """A long body with a cabin, wheels or floats in pairs, and things on top."""
    length, high, wide = rng.uniform(0.8, 2.0), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.6)
    body = _body(rng, length, high, wide)
    parts = [("body", body)]
    if rng.random() < 0.7:
        cabin = taper(block(), float(rng.uniform(0.5, 1.0)))
        cabin = cabin.scaled([rng.uniform(0.2, 0.8) * length, 0.6 * high, 0.9 * wide])
        parts.append(("cabin", cabin.moved([rng.uniform(-0.5, 0.5) * length, 1.4 * high, 0])))
    if rng.random() < 0.75:
        size, pairs = rng.uniform(0.12, 0.4), int(rng.integers(1, 5))
        wheel = _wheel(rng, size)
        for x in np.linspace(-0.75, 0.75, pairs) * length if pairs > 1 else [rng.uniform(-1, 1)]:
            one = wheel.moved([x, -high, wide])
            parts += [("wheel", one), ("wheel", one.scaled([1, 1, -1]))]
    for _ in range(int(rng.integers(0, 4))):
        top = solid(rng).scaled(rng.uniform(0.1, 0.3))
        parts.append(("gear", top.moved([rng.uniform(-1, 1) * length, high, 0])))
    return parts


def winged(rng: Generator) -> list[Part]:
    """A slender body with wings, tail planes, fins, engines or a rotor."""
    length, thick = 1.0, rng.uniform(0.06, 0.25)
    body = _body(rng, length, thick, thick * rng.uniform(0.7, 1.3))
    parts = [("body", body)]
    wing = foil(rng).scaled(rng.uniform(0.3, 0.9))
    wing = wing.turned(rotation([0, 1, 0], -np.pi / 2))  # span along z
    wing = wing.turned(rotation([1, 0, 0], float(rng.uniform(-0.3, 0.3))))
    place = [rng.uniform(-0.4, 0.4), rng.uniform(-1, 1) * thick, 0]
    levels = [0.0, 0.5] if rng.random() < 0.2 else [0.0]
    for level in levels:
        one = wing.moved(place).moved([0, level, 0])
        parts += [("wing", one), ("wing", one.scaled([1, 1, -1]))]
    tail = wing.scaled(float(rng.uniform(0.25, 0.5))).moved([-0.85 * length, 0, 0])
    if rng.random() < 0.8:
        parts += [("tail", tail), ("tail", tail.scaled([1, 1, -1]))]
    if rng.random() < 0.8:
        parts.append(("fin", tail.turned(rotation([1, 0, 0], -np.pi / 2))))
    if rng.random() < 0.4:
        pod = ball(rng).scaled([0.2, 0.07, 0.07]).moved([place[0], -thick, 0.4])
        parts += [("engine", pod), ("engine", pod.scaled([1, 1, -1]))]
    if rng.random() < 0.25:
        blade = foil(rng).scaled([0.5, 0.3, 0.2]).moved([0, 1.5 * thick, 0])
        parts += [("rotor", one) for one in around(blade, int(rng.integers(2, 6)))]
    return parts


def _wheel(rng: Generator, size: float) -> Mesh:
    """Disc or tyre in the xy plane."""
    mesh = ring(rng) if rng.random() < 0.4 else rod(rng).scaled([1, rng.uniform(0.1, 0.4), 1])
    return mesh.scaled(size).turned(Y_TO_Z)


def _body(rng: Generator, length: float, high: float, wide: float) -> Mesh:
    """Long body along x: hull, box or lofted profile."""
    kind = rng.random()
    if kind < 0.35:
        return ball(rng).scaled([length, high, wide])
    if kind < 0.6:
        return block().scaled([length, high, wide])
    t = np.linspace(-1, 1, 12)
    radius = np.clip(np.interp(t, np.linspace(-1, 1, 5), rng.uniform(0.3, 1.0, 5)), 0.05, 1)
    line = np.stack([radius * (1 - 0.7 * np.abs(t) ** rng.uniform(3, 9)), t], axis=1)
    mesh = revolve(np.concatenate([[[0, -1]], line, [[0, 1]]]), segments=14)
    if rng.random() < 0.2:
        mesh = bend(mesh, float(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.1:
        mesh = twist(deform(rng, mesh), 0.3)
    return mesh.turned(rotation([0, 0, 1], -np.pi / 2)).scaled([length, high, wide])
