"""Animals and plants: limbs and branches from a trunk."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Array, rotation
from pointpeft.data.procedural.parts import ball, bar, foil, leaf, limb, vessel
from pointpeft.data.procedural.programs._shared import Part, Y

__all__ = ["creature", "plant"]


def creature(rng: Generator) -> list[Part]:
    """A trunk with a head, a tail and jointed limbs in mirrored pairs, standing or upright."""
    length, thick = 1.0, rng.uniform(0.15, 0.4)
    upright = rng.random() < 0.5
    trunk = ball(rng).scaled([length * 0.7, thick, thick * rng.uniform(0.6, 1.2)])
    parts = [("trunk", trunk)]
    neck = np.array([0.6, rng.uniform(-0.1, 0.3), 0])
    nod = 0.0 if upright else rng.uniform(-0.1, 0.6)
    head = neck + np.array([rng.uniform(0.1, 0.5), nod, 0])
    parts.append(("neck", limb(rng, np.stack([neck * 0.8, head]), thick * 0.4)))
    parts.append(("head", ball(rng).scaled(rng.uniform(0.1, 0.3, 3)).moved(head)))
    girth, pairs = rng.uniform(0.03, 0.12), int(rng.integers(1, 5))
    knee, spread = rng.uniform(-0.3, 0.3), rng.uniform(0.0, 0.8)
    for x in np.linspace(-0.5, 0.5, pairs):
        reach = rng.uniform(0.4, 1.1)
        joints = np.array([
            [x, 0, 0.6 * thick],
            [x + knee, -0.5 * reach, 0.6 * thick + spread],
            [x - (1.0 if upright else 0.0) * 0.5, -reach, 0.6 * thick + 1.2 * spread],
        ])  # fmt: skip
        parts += _mirrored_limb(rng, joints, girth)
    if rng.random() < 0.6:
        tail = np.array([[-0.6, 0, 0], [-0.9, 0.1, 0], [-1.2, rng.uniform(-0.5, 0.6), 0]])
        parts.append(("tail", limb(rng, tail, thick * rng.uniform(0.1, 0.6))))
    if rng.random() < 0.3:
        wing = leaf(rng) if rng.random() < 0.5 else foil(rng).scaled(0.6)
        wing = wing.turned(rotation([0, 1, 0], -np.pi / 2)).moved([0, 0.7 * thick, 0])
        parts += [("wing", wing), ("wing", wing.scaled([1, 1, -1]))]
    if upright:
        stand_up = rotation([0, 0, 1], np.pi / 2)
        parts = [(name, mesh.turned(stand_up)) for name, mesh in parts]
    return parts


def plant(rng: Generator) -> list[Part]:
    """Branches that branch, with leaves or fruit at their ends, sometimes in a pot."""
    parts: list[Part] = []
    levels, fan = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    spread = rng.uniform(0.3, 1.0)
    foliage = leaf(rng) if rng.random() < 0.7 else ball(rng)
    size = rng.uniform(0.2, 0.6)
    tips = [(np.zeros(3), Y * rng.uniform(0.3, 1.2), rng.uniform(0.03, 0.12))]
    for level in range(levels):
        grown = []
        for start, step, thickness in tips[:12]:
            parts.append(("branch", bar(start, start + step, thickness, sides=5)))
            for _ in range(fan if level + 1 < levels else 1):
                turn = step / np.linalg.norm(step) + spread * rng.normal(size=3)
                grown.append((start + step, 0.6 * turn, 0.6 * thickness))
        tips = grown
    for start, step, _ in tips[:40] if levels > 1 else tips * 8:
        turn = rotation(Y, float(rng.uniform(0, 2 * np.pi)))
        parts.append(("leaf", foliage.scaled(size).turned(turn).moved(start + 0.1 * step)))
    if rng.random() < 0.5:
        pot = vessel(rng).scaled(rng.uniform(0.2, 0.5, 3))
        parts.append(("pot", pot.moved([0, -np.abs(pot.vertices[:, 1]).max(), 0])))
    return parts


def _mirrored_limb(rng: Generator, joints: Array, girth: float) -> list[Part]:
    """A limb with a foot, and its mirror image across the xy plane."""
    one = limb(rng, joints, girth)
    foot = ball(rng).scaled(1.5 * girth).moved(joints[-1])
    return [
        (name, mesh.scaled([1, 1, side]))
        for name, mesh in (("limb", one), ("foot", foot))
        for side in (1, -1)
    ]
