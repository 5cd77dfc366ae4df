"""Boards on legs and columns, and boxes of boards."""

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Mesh, extrude, rotation
from pointpeft.data.procedural.parts import (
    ball,
    bar,
    block,
    log_uniform,
    outline,
    rod,
    solid,
    vessel,
)
from pointpeft.data.procedural.programs._shared import (
    Y_TO_Z,
    Part,
    Y,
    around,
    circle,
    mirrored,
    rectangle,
)

__all__ = ["cabinet", "panel", "seat", "table"]


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
