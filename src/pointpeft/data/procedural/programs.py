"""Random programs: each draws a way of putting parts together, and the parts, from ``rng``.

A program returns named parts in one frame, y up; size and place are settled later.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Array, Mesh, extrude, revolve, rotation, sweep
from pointpeft.data.procedural.parts import (
    ball,
    bar,
    bend,
    block,
    curve,
    deform,
    foil,
    leaf,
    limb,
    log_uniform,
    outline,
    prism,
    ring,
    rod,
    solid,
    surface,
    taper,
    tube,
    twist,
    vessel,
)

__all__ = ["PROGRAMS", "Part"]

Part = tuple[str, Mesh]
"""A name and its surface."""

Y = np.array([0.0, 1.0, 0.0])


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
            parts.append(("addition", _mirrored(new)))
    return parts


def turned(rng: Generator) -> list[Part]:
    """A vessel, often with handles, a spout, a lid or a foot."""
    body = vessel(rng).scaled([1, log_uniform(rng, 0.4, 2.5), 1])
    parts = [("body", body)]
    top, bottom = body.vertices[:, 1].max(), body.vertices[:, 1].min()
    if rng.random() < 0.5:
        handle = _handle(rng, top - bottom).moved([_reach(body) * 0.95, (top + bottom) / 2, 0])
        parts += [("handle", turn) for turn in _around(handle, int(rng.choice([1, 1, 2])))]
    if rng.random() < 0.3:
        knob = ball(rng).scaled(rng.uniform(0.08, 0.3, 3)).moved([0, top + 0.1, 0])
        parts.append(("knob", knob))
    if rng.random() < 0.25:
        spout = np.array([[0, 0, 0], [0.6, 0.1, 0], [0.9, rng.uniform(0.2, 0.9), 0]])
        parts.append(("spout", limb(rng, spout, 0.12).moved([0.8 * _reach(body), 0, 0])))
    if rng.random() < 0.3:
        foot = rod(rng).scaled([rng.uniform(0.4, 1.0), rng.uniform(0.03, 0.2), 0.7])
        parts.append(("foot", foot.moved([0, bottom, 0])))
    return parts


def table(rng: Generator) -> list[Part]:
    """A top on legs, a frame or a column, with shelves and rails."""
    width, depth = log_uniform(rng, 0.4, 1.6, 2)
    height, thick = log_uniform(rng, 0.3, 2.0), rng.uniform(0.02, 0.12)
    top = _slab(rng, width, thick, depth).moved([0, height, 0])
    parts = [("top", top)]
    if rng.random() < 0.25:
        parts += _column(rng, height, min(width, depth))
    else:
        parts += _legs(rng, width, depth, height)
    for level in rng.uniform(0.1, 0.8, int(rng.integers(0, 3))):
        shelf = block().scaled([0.9 * width, thick / 2, 0.9 * depth])
        parts.append(("shelf", shelf.moved([0, level * height, 0])))
    if rng.random() < 0.3:
        drawer = block().scaled([0.3 * width, 0.15 * height, 0.9 * depth])
        parts.append(("drawer", drawer.moved([0.6 * width, 0.8 * height, 0])))
    return parts


def seat(rng: Generator) -> list[Part]:
    """A seat with a back, arms, cushions, and legs, a column or a block below."""
    width, depth = log_uniform(rng, 0.4, 2.0), rng.uniform(0.4, 0.8)
    height, thick = rng.uniform(0.2, 1.0), rng.uniform(0.04, 0.25)
    parts = [("seat", _slab(rng, width, thick, depth).moved([0, height, 0]))]
    back = _slab(rng, width, rng.uniform(0.03, 0.15), rng.uniform(0.2, 0.9))
    back = back.turned(rotation([1, 0, 0], np.pi / 2 + rng.uniform(-0.3, 0.3)))
    if rng.random() < 0.85:
        rise = height + np.abs(back.vertices[:, 1]).max()
        parts.append(("back", back.moved([0, rise, -depth])))
    if rng.random() < 0.4:
        arm = block().scaled([0.06, rng.choice([0.05, 0.3]), depth])
        arm = arm.moved([width, height + rng.uniform(0.2, 0.5), 0])
        post = bar(np.array([width, height, depth]), np.array([width, height + 0.4, depth]), 0.04)
        parts += [("arm", part) for one in (arm, post) for part in (one, _mirrored(one))]
    kind = rng.random()
    if kind < 0.6:
        parts += _legs(rng, width, depth, height)
    elif kind < 0.8:
        parts += _column(rng, height, depth)
    else:
        parts.append(("base", block().scaled([width, height / 2, depth]).moved([0, height / 2, 0])))
    return parts


def cabinet(rng: Generator) -> list[Part]:
    """A box of panels with shelves, dividers, doors and knobs; a shelf when it is open."""
    w, h, d = log_uniform(rng, 0.3, 1.5, 3)
    thick = rng.uniform(0.02, 0.06)
    side = block().scaled([thick, h, d]).moved([w, 0, 0])
    lid = block().scaled([w, thick, d]).moved([0, h, 0])
    parts = [("side", side), ("side", _mirrored(side)), ("board", lid)]
    rows = int(rng.integers(1, 7))
    parts += [("board", lid.moved([0, -2 * h * k / rows, 0])) for k in range(1, rows + 1)]
    if rng.random() < 0.7:
        parts.append(("back", block().scaled([w, h, thick]).moved([0, 0, -d])))
    columns = int(rng.integers(1, 4))
    for k in range(1, columns):
        x = -w + 2 * w * k / columns
        parts.append(("divider", block().scaled([thick, h, d]).moved([x, 0, 0])))
    if rng.random() < 0.5:
        for k in range(columns):
            if rng.random() < 0.8:
                x = -w + (2 * k + 1) * w / columns
                parts.append(("door", block().scaled([w / columns, h, thick]).moved([x, 0, d])))
                parts.append(("knob", ball(rng).scaled(0.06).moved([x, 0, d + 0.08])))
    return parts


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
    spots = joints[2] + _circle(int(rng.choice([1, 1, 1, 3, 5])), 0.0, 0.5)
    for spot in spots:
        parts.append(("head", mesh.moved(spot)))
        if len(spots) > 1:
            parts.append(("stem", bar(joints[2], spot, 0.03)))
    return parts


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
        parts += [("rotor", one) for one in _around(blade, int(rng.integers(2, 6)))]
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


def radial(rng: Generator) -> list[Part]:
    """The same parts again and again about an axis: wheel, fan, flower, crown, gear."""
    parts: list[Part] = []
    if rng.random() < 0.7:
        parts.append(("hub", rod(rng).scaled([*2 * [rng.uniform(0.1, 0.4)], 0.3]).turned(_swap())))
    if rng.random() < 0.5:
        parts.append(("rim", ring(rng)))
    arm = rng.choice(np.array([foil, leaf, solid, tube], dtype=object))(rng)
    arm = arm.scaled(rng.uniform(0.2, 0.6, 3)).moved([rng.uniform(0.0, 0.8), 0, 0])
    parts += [("arm", one) for one in _around(arm, int(rng.integers(3, 13)))]
    if rng.random() < 0.5:
        tilt = rotation([1, 0, 0], np.pi / 2)
        parts = [(name, mesh.turned(tilt)) for name, mesh in parts]
    if rng.random() < 0.4:
        end = np.array([0, -rng.uniform(0.5, 2.0), 0])
        parts.append(("stem", bar(0 * end, end, rng.uniform(0.02, 0.1))))
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
        low, high = _circle(count, -1.0, 1.0), _circle(count, 1.0, rng.uniform(0.3, 1.2))
        high = np.roll(high, int(rng.integers(3)), axis=0)
        rods = [bar(a, b, thickness) for a, b in zip(low, high, strict=True)]
        for circle in (low, high):
            rods.append(sweep(circle, thickness, sides=6, closed=True))
    else:
        count, form = int(rng.integers(3, 6)), surface(rng)
        lines = form.vertices.reshape(15, 15, 3)
        keep = np.linspace(0, 14, count).astype(int)
        rods = [sweep(line, thickness, 5) for k in keep for line in (lines[k], lines[:, k])]
    parts = [("wire", mesh) for mesh in rods]
    if rng.random() < 0.3:
        parts.append(("content", solid(rng).scaled(0.6)))
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


def panel(rng: Generator) -> list[Part]:
    """Flat or hinged plates with a frame and things on them: door, sign, screen, book, phone."""
    w, h = log_uniform(rng, 0.3, 1.2, 2)
    thick = rng.uniform(0.02, 0.15)
    plate = extrude(outline(rng) if rng.random() < 0.2 else _rectangle(), thick)
    plate = plate.turned(rotation([1, 0, 0], np.pi / 2)).scaled([w, h, 1])
    angle = rng.uniform(0.2, 2.5)
    parts = [("plate", plate)]
    if rng.random() < 0.35:  # the second plate of a hinge
        other = plate.moved([0, h, 0]).turned(rotation([1, 0, 0], angle)).moved([0, -h, 0])
        parts.append(("plate", other))
    for _ in range(int(rng.integers(0, 5))):
        item = solid(rng).scaled(rng.uniform(0.05, 0.25)).scaled([1, 1, 0.5])
        parts.append(("item", item.moved([*rng.uniform(-0.8, 0.8, 2) * [w, h], thick])))
    if rng.random() < 0.4:
        corners = np.array([[-w, -h, 0], [-w, h, 0], [w, h, 0], [w, -h, 0]])
        for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
            parts.append(("frame", bar(a, b, 1.2 * thick, sides=4)))
    if rng.random() < 0.4:
        parts += [(name, mesh.moved([0, -h - 0.5, 0])) for name, mesh in _column(rng, 0.5, 0.5)]
    return parts


def building(rng: Generator) -> list[Part]:
    """Storeys that recede, wings, columns, roofs and towers."""
    w, d, y = rng.uniform(0.4, 1.2), rng.uniform(0.4, 1.2), 0.0
    parts: list[Part] = []
    plan = _rectangle() if rng.random() < 0.7 else outline(rng)
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
        parts += [("tower", tower), ("tower", _mirrored(tower))]
    return parts


PROGRAMS: dict[str, Callable[[Generator], list[Part]]] = {
    program.__name__: program
    for program in (
        composition, growth, turned, table, seat, cabinet, stand, vehicle, winged, creature,
        radial, plant, array, wireframe, tool, panel, building,
    )
}  # fmt: skip
"""Programs by name."""


def _mirrored(mesh: Mesh) -> Mesh:
    return mesh.scaled([-1, 1, 1])


def _around(mesh: Mesh, count: int) -> list[Mesh]:
    """Copies turned about y, evenly."""
    return [mesh.turned(rotation(Y, 2 * np.pi * k / count)) for k in range(count)]


def _circle(count: int, height: float, radius: float) -> Array:
    if count == 1:
        return np.array([[0.0, height, 0.0]])
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([radius * np.cos(angle), np.full(count, height), radius * np.sin(angle)], 1)


def _swap() -> Array:
    """Lays the z axis along y."""
    return rotation([1, 0, 0], np.pi / 2)


def _reach(mesh: Mesh) -> float:
    """Distance from the y axis to the surface at about half height."""
    v = mesh.vertices
    middle = np.abs(v[:, 1] - v[:, 1].mean()) < 0.35 * np.ptp(v[:, 1])
    return float(np.hypot(v[middle, 0], v[middle, 2]).max(initial=0.2))


def _rectangle() -> Array:
    return np.array([[-1, -1], [-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1.0]])


def _slab(rng: Generator, width: float, thick: float, depth: float) -> Mesh:
    """Horizontal plate, rectangular, round or of a random outline."""
    kind = rng.random()
    plan = _rectangle() if kind < 0.6 else outline(rng)
    return extrude(plan, 2 * thick).moved([0, -thick, 0]).scaled([width, 1, depth])


def _legs(rng: Generator, width: float, depth: float, height: float) -> list[Part]:
    """Three, four or six equal legs, straight or splayed, with rails between them."""
    inset, splay = rng.uniform(0.6, 1.0), rng.choice([0.0, rng.uniform(0.0, 0.3)])
    thickness = rng.uniform(0.02, 0.1)
    spots = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1.0]])
    if rng.random() < 0.15:
        spots = _circle(3, 0.0, 1.0)[:, [0, 2]]
    elif width > 1.2 and rng.random() < 0.4:
        spots = np.concatenate([spots, [[0, -1], [0, 1]]])
    top = np.stack([spots[:, 0] * width, 0 * spots[:, 0] + height, spots[:, 1] * depth], 1)
    top *= [inset, 1, inset]
    bottom = top * [1 + splay, 0, 1 + splay]
    sides = int(rng.choice([4, 8]))
    parts = [("leg", bar(a, b, thickness, sides)) for a, b in zip(top, bottom, strict=True)]
    if rng.random() < 0.3:
        level = rng.uniform(0.1, 0.9)
        joints = level * top + (1 - level) * bottom
        parts += [
            ("rail", bar(a, b, 0.6 * thickness))
            for a, b in zip(joints[:4], np.roll(joints[:4], -1, axis=0), strict=True)
        ]
    return parts


def _column(rng: Generator, height: float, reach: float) -> list[Part]:
    """One turned column from the ground, on a disc or on radiating feet."""
    column = vessel(rng).scaled([rng.uniform(0.05, 0.2), height / 2, 0.1])
    parts = [("column", column.moved([0, height / 2, 0]))]
    if rng.random() < 0.5:
        disc = rod(rng).scaled([0.7 * reach, 0.03, 0.7 * reach])
        return [*parts, ("foot", disc)]
    end = np.array([0.8 * reach, 0.0, 0.0])
    foot = bar(Y * rng.uniform(0.05, 0.3), end, 0.04)
    return [*parts, *(("foot", one) for one in _around(foot, int(rng.integers(3, 6))))]


def _handle(rng: Generator, height: float) -> Mesh:
    """Half a ring, standing, open towards -x."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    path = np.stack([rng.uniform(0.2, 0.6) * np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    path = path * [1, height * rng.uniform(0.15, 0.4), 1]
    return sweep(path, rng.uniform(0.03, 0.1))


def _wheel(rng: Generator, size: float) -> Mesh:
    """Disc or tyre in the xy plane."""
    mesh = ring(rng) if rng.random() < 0.4 else rod(rng).scaled([1, rng.uniform(0.1, 0.4), 1])
    return mesh.scaled(size).turned(_swap())


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


def _mirrored_limb(rng: Generator, joints: Array, girth: float) -> list[Part]:
    """A limb with a foot, and its mirror image across the xy plane."""
    one = limb(rng, joints, girth)
    foot = ball(rng).scaled(1.5 * girth).moved(joints[-1])
    return [
        (name, mesh.scaled([1, 1, side]))
        for name, mesh in (("limb", one), ("foot", foot))
        for side in (1, -1)
    ]
