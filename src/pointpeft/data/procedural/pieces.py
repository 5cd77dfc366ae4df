"""Random single pieces, ways to deform them, and what programs do with them.

Every function draws from ``rng`` and returns a mesh of about unit size around the origin.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import (
    Array,
    Mesh,
    extrude,
    revolve,
    rotation,
    sheet,
    superquadric,
    sweep,
)


def log_uniform(rng: Generator, low: float, high: float, size: int | None = None) -> Any:
    """Numbers whose logarithm is uniform: ratios as likely as their inverses."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def outline(rng: Generator) -> Array:
    """Star-shaped closed curve ``(P, 2)``: polygon, rounded box, gear, star or wavy disc."""
    kind = rng.integers(5)
    if kind == 0:
        count = int(rng.integers(3, 9))
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + np.pi / count
        radius = np.ones(count)
    else:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        lobes = int(rng.integers(2, 9))
        radius = {
            1: (np.abs(np.cos(angle)) ** 6 + np.abs(np.sin(angle)) ** 6) ** (-1 / 6),
            2: 1 + rng.uniform(0.1, 0.3) * np.sign(np.sin(lobes * angle)),
            3: 1 + rng.uniform(0.2, 0.6) * np.cos(lobes * angle),
            4: np.ones(24),
        }[int(kind)]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def profile(rng: Generator, count: int = 14) -> Array:
    """Smooth random curve ``(count, 2)`` of (radius, height), for vessels and legs."""
    knots = int(rng.integers(2, 6))
    radius = rng.uniform(0.15, 1.0, knots)
    t = np.linspace(0, 1, count)
    place = np.linspace(0, 1, knots)
    if rng.random() < 0.3:  # turned with steps
        smooth = radius[np.minimum((t * knots).astype(int), knots - 1)]
    else:
        near = np.exp(-(((t[:, None] - place) * knots) ** 2))
        smooth = near @ radius / near.sum(axis=1)
    return np.stack([smooth, 2 * t - 1], axis=1)


def curve(rng: Generator, count: int = 14, wildness: float = 0.6) -> Array:
    """Smooth random open curve ``(count, 3)`` from below to above."""
    t = np.linspace(0, 1, count)[:, None]
    waves = sum(
        rng.normal(0, wildness / k, 3) * np.sin(k * np.pi * t + rng.uniform(0, np.pi, 3))
        for k in (1, 2)
    )
    points = waves + np.array([0, 2, 0]) * (t - 0.5)
    return points - points.mean(axis=0)


def block() -> Mesh:
    """Box between -1 and 1 on every axis."""
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], dtype=float)
    share = np.tile([0, 1 / 3, 2 / 3], 4)[:, None]  # along the side from a corner to the next
    start, end = corners.repeat(3, axis=0), np.roll(corners, -1, axis=0).repeat(3, axis=0)
    sides = start * (1 - share) + end * share
    return extrude(sides, 2.0, rings=5).moved([0, -1, 0])


def ball(rng: Generator) -> Mesh:
    """Superquadric between box, sphere and octahedron."""
    first, second = rng.choice([0.2, 0.5, 1.0, 1.0, 1.6], 2)
    return superquadric((float(first), float(second)))


def prism(rng: Generator) -> Mesh:
    """Extruded outline, standing."""
    return extrude(outline(rng), 2.0).moved([0, -1, 0])


def rod(rng: Generator) -> Mesh:
    """Cylinder or cone frustum, with caps."""
    top = rng.choice([1.0, 1.0, rng.uniform(0.0, 1.0)])
    heights = np.linspace(-1, 1, 6)
    radius = np.interp(heights, [-1, 1], [1, top])
    line = np.stack([radius, heights], axis=1)
    return revolve(np.concatenate([[[0, -1]], line, [[0, 1]]]))


def vessel(rng: Generator) -> Mesh:
    """Turned body, open or closed, sometimes with a wall, sometimes part of a turn only."""
    line = profile(rng)
    line = np.concatenate([[[0, -1]], line])
    if rng.random() < 0.4:
        line = np.concatenate([line, [[0, 1]]])
    elif rng.random() < 0.5:
        inside = line[:0:-1] * [rng.uniform(0.8, 0.95), 0.97]
        line = np.concatenate([line, inside, [[0, inside[-1, 1]]]])
    arc = 2 * np.pi if rng.random() < 0.9 else rng.uniform(1.0, 5.0)
    return revolve(line, segments=18, arc=arc)


def ring(rng: Generator) -> Mesh:
    """Torus of round or flat section, about y."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    path = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], axis=1)
    mesh = sweep(path, float(log_uniform(rng, 0.04, 0.4)), closed=True)
    return mesh.scaled([1, log_uniform(rng, 0.5, 3.0), 1])


def tube(rng: Generator) -> Mesh:
    """Tube of varying radius along a random curve or a coil."""
    if rng.random() < 0.2:
        t = np.linspace(0, 1, 40)
        turns = 2 * np.pi * rng.uniform(1, 4)
        path = np.stack([np.cos(turns * t), 2 * t - 1, np.sin(turns * t)], axis=1)
        return sweep(path, rng.uniform(0.05, 0.2), sides=6)
    path = curve(rng)
    radius = log_uniform(rng, 0.03, 0.35) * np.interp(
        np.linspace(0, 1, len(path)), np.linspace(0, 1, 3), rng.uniform(0.4, 1.2, 3)
    )
    return sweep(path, radius)


def limb(rng: Generator, joints: Array, thickness: float) -> Mesh:
    """Tapering tube through given joints ``(J, 3)``."""
    t = np.linspace(0, 1, 4 * len(joints))
    place = np.linspace(0, 1, len(joints))
    path = np.stack([np.interp(t, place, joints[:, k]) for k in range(3)], axis=1)
    return sweep(path, thickness * np.linspace(1, rng.uniform(0.4, 1.0), len(path)))


def surface(rng: Generator) -> Mesh:
    """Open sheet: plane, fold, wave, saddle or dome."""
    a, b, phase = rng.uniform(-1.2, 1.2, 3)
    kind = rng.integers(4)
    forms: list[Callable[[Array, Array], Array]] = [
        lambda x, z: 0 * x,
        lambda x, z: a * np.abs(x) + b * np.abs(z),
        lambda x, z: 0.3 * np.sin(3 * a * x + phase) + 0.3 * np.cos(3 * b * z),
        lambda x, z: 0.6 * (a * x**2 + b * z**2),
    ]
    return sheet(forms[int(kind)])


def foil(rng: Generator) -> Mesh:
    """Flat wing or blade along +x, thicker in the middle, tapering and swept back."""
    tip, sweep_back, thick = rng.uniform(0.1, 1.0), rng.uniform(-0.5, 1.0), rng.uniform(0.03, 0.15)
    mesh = superquadric((float(rng.choice([0.3, 1.0])), 1.0), rows=8, columns=16)

    def wing(v: Array) -> Array:
        t = (v[:, 1] + 1) / 2
        chord = 1 - (1 - tip) * t
        return np.stack([2 * t, thick * v[:, 2] * chord, 0.4 * v[:, 0] * chord - sweep_back * t], 1)

    slab = extrude(outline(rng), 2.0, rings=6).moved([0, -1, 0]) if rng.random() < 0.3 else mesh
    return slab.warped(wing)


def leaf(rng: Generator) -> Mesh:
    """Thin curved leaf along +x from the origin."""
    width, droop = rng.uniform(0.1, 0.5), rng.uniform(-0.2, 0.8)

    def shape(v: Array) -> Array:
        t = (v[:, 0] + 1) / 2
        return np.stack([t, 0.3 * t - droop * t**2, width * v[:, 2] * np.sin(np.pi * t) ** 0.7], 1)

    return sheet(lambda x, z: 0 * x, resolution=5).warped(shape)


def bar(start: Array, end: Array, thickness: float, sides: int = 6) -> Mesh:
    """Straight rod of radius ``thickness`` from ``start (3,)`` to ``end (3,)``."""
    t = np.linspace(0, 1, 3)[:, None]
    return sweep(start * (1 - t) + end * t, thickness, sides=sides)


def solid(rng: Generator) -> Mesh:
    """Any closed or open part, stretched, deformed and turned at random."""
    makers: list[Callable[[Generator], Mesh]] = [
        lambda _: block(), ball, ball, prism, rod, rod, vessel, ring, tube, surface, foil,
    ]  # fmt: skip
    mesh = makers[int(rng.integers(len(makers)))](rng)
    mesh = mesh.scaled(log_uniform(rng, 0.25, 1.0, 3))
    if rng.random() < 0.3:
        mesh = deform(rng, mesh)
    return mesh


def taper(mesh: Mesh, top: float) -> Mesh:
    """Narrow along y: cross-sections grow from 1 at the bottom to ``top`` at the top."""

    def change(v: Array) -> Array:
        t = _height(v)
        return v * np.stack([1 + (top - 1) * t, np.ones_like(t), 1 + (top - 1) * t], 1)

    return mesh.warped(change)


def twist(mesh: Mesh, angle: float) -> Mesh:
    """Turn cross-sections about y, by ``angle`` radians from bottom to top."""

    def change(v: Array) -> Array:
        a = angle * _height(v)
        x, z = v[:, 0], v[:, 2]
        return np.stack([x * np.cos(a) - z * np.sin(a), v[:, 1], x * np.sin(a) + z * np.cos(a)], 1)

    return mesh.warped(change)


def bend(mesh: Mesh, angle: float) -> Mesh:
    """Bend the y axis into an arc of ``angle`` radians in the xy plane."""
    if abs(angle) < 1e-3:
        return mesh

    def change(v: Array) -> Array:
        length = max(float(np.ptp(v[:, 1])), 1e-6)
        radius = length / angle
        a = angle * _height(v)
        return np.stack(
            [radius - (radius - v[:, 0]) * np.cos(a), (radius - v[:, 0]) * np.sin(a), v[:, 2]], 1
        )

    return mesh.warped(change)


def deform(rng: Generator, mesh: Mesh) -> Mesh:
    """One random taper, twist, bend, shear or tilt."""
    kind = rng.integers(5)
    if kind == 0:
        return taper(mesh, float(rng.uniform(0.1, 1.6)))
    if kind == 1:
        return twist(mesh, float(rng.uniform(-2.5, 2.5)))
    if kind == 2:
        return bend(mesh, float(rng.uniform(-2.5, 2.5)))
    if kind == 3:
        shear = np.eye(3)
        shear[0, 1] = rng.uniform(-0.7, 0.7)
        return mesh.turned(shear)
    return mesh.turned(rotation(rng.normal(size=3), float(rng.uniform(0, np.pi))))


def _height(v: Array) -> Array:
    """Height of vertices as a share of the whole, 0 at the bottom."""
    low = v[:, 1].min()
    return (v[:, 1] - low) / max(float(v[:, 1].max() - low), 1e-6)


Part = tuple[str, Mesh]
"""A name and its surface."""

Y = np.array([0.0, 1.0, 0.0])
"""The direction that points up, ``(3,)``."""

Y_TO_Z = rotation([1, 0, 0], np.pi / 2)
"""Turns what stands along y so that it lies along z, ``(3, 3)``."""


def mirrored(mesh: Mesh) -> Mesh:
    """The mirror image across the yz plane."""
    return mesh.scaled([-1, 1, 1])


def around(mesh: Mesh, count: int) -> list[Mesh]:
    """``count`` copies turned about y, evenly."""
    return [mesh.turned(rotation(Y, 2 * np.pi * k / count)) for k in range(count)]


def circle(count: int, height: float, radius: float) -> Array:
    """Points evenly on a horizontal circle about y, ``(count, 3)``; a single one is its center."""
    if count == 1:
        return np.array([[0.0, height, 0.0]])
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([radius * np.cos(angle), np.full(count, height), radius * np.sin(angle)], 1)


def rectangle() -> Array:
    """Outline of the square from -1 to 1 with the middles of its sides, ``(8, 2)``."""
    return np.array([[-1, -1], [-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1.0]])
