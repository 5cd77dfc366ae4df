"""Random programs: each draws a way of putting parts together, and the parts, from ``rng``.

A program returns named parts in one frame, y up; size and place are settled later.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Array, rotation, sweep
from pointpeft.data.procedural.objects import (
    building,
    cabinet,
    panel,
    seat,
    table,
    turned,
    vehicle,
    winged,
)
from pointpeft.data.procedural.pieces import (
    Y_TO_Z,
    Part,
    Y,
    around,
    ball,
    bar,
    block,
    circle,
    curve,
    foil,
    leaf,
    limb,
    log_uniform,
    mirrored,
    prism,
    ring,
    rod,
    solid,
    surface,
    tube,
    vessel,
)


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


# Their order is part of the stream: a shape's program is drawn by its place here.
PROGRAMS: dict[str, Callable[[Generator], list[Part]]] = {
    program.__name__: program
    for program in (
        composition, growth, turned, table, seat, cabinet, stand, vehicle, winged, creature,
        radial, plant, array, wireframe, tool, panel, building,
    )
}  # fmt: skip
"""Programs by name."""
