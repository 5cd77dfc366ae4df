"""Random programs of man-made objects: furniture, buildings, vehicles and vessels."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Mesh, extrude, revolve, rotation, sweep
from pointpeft.data.procedural.pieces import (
    Y_TO_Z,
    Part,
    Y,
    around,
    ball,
    bar,
    bend,
    block,
    circle,
    deform,
    foil,
    limb,
    log_uniform,
    mirrored,
    outline,
    rectangle,
    ring,
    rod,
    solid,
    taper,
    twist,
    vessel,
)


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
        parts += [("arm", part) for one in (arm, post) for part in (one, mirrored(one))]
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
    parts = [("side", side), ("side", mirrored(side)), ("board", lid)]
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


def panel(rng: Generator) -> list[Part]:
    """Flat or hinged plates with a frame and things on them: door, sign, screen, book, phone."""
    w, h = log_uniform(rng, 0.3, 1.2, 2)
    thick = rng.uniform(0.02, 0.15)
    plate = extrude(outline(rng) if rng.random() < 0.2 else rectangle(), thick)
    plate = plate.turned(Y_TO_Z).scaled([w, h, 1])
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


def _slab(rng: Generator, width: float, thick: float, depth: float) -> Mesh:
    """Horizontal plate, rectangular, round or of a random outline."""
    kind = rng.random()
    plan = rectangle() if kind < 0.6 else outline(rng)
    return extrude(plan, 2 * thick).moved([0, -thick, 0]).scaled([width, 1, depth])


def _legs(rng: Generator, width: float, depth: float, height: float) -> list[Part]:
    """Three, four or six equal legs, straight or splayed, with rails between them."""
    inset, splay = rng.uniform(0.6, 1.0), rng.choice([0.0, rng.uniform(0.0, 0.3)])
    thickness = rng.uniform(0.02, 0.1)
    spots = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1.0]])
    if rng.random() < 0.15:
        spots = circle(3, 0.0, 1.0)[:, [0, 2]]
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
    return [*parts, *(("foot", one) for one in around(foot, int(rng.integers(3, 6))))]


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


def turned(rng: Generator) -> list[Part]:
    """A vessel, often with handles, a spout, a lid or a foot."""
    body = vessel(rng).scaled([1, log_uniform(rng, 0.4, 2.5), 1])
    parts = [("body", body)]
    top, bottom = body.vertices[:, 1].max(), body.vertices[:, 1].min()
    if rng.random() < 0.5:
        handle = _handle(rng, top - bottom).moved([_reach(body) * 0.95, (top + bottom) / 2, 0])
        parts += [("handle", turn) for turn in around(handle, int(rng.choice([1, 1, 2])))]
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


def _handle(rng: Generator, height: float) -> Mesh:
    """Half a ring, standing, open towards -x."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    path = np.stack([rng.uniform(0.2, 0.6) * np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    path = path * [1, height * rng.uniform(0.15, 0.4), 1]
    return sweep(path, rng.uniform(0.03, 0.1))


def _reach(mesh: Mesh) -> float:
    """Distance from the y axis to the surface at about half height."""
    v = mesh.vertices
    middle = np.abs(v[:, 1] - v[:, 1].mean()) < 0.35 * np.ptp(v[:, 1])
    return float(np.hypot(v[middle, 0], v[middle, 2]).max(initial=0.2))
