"""One seeded shape after the other: run a program, cut, deform, place, sample points."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pointpeft.data.procedural.mesh import Array, Mesh, rotation
from pointpeft.data.procedural.pieces import Part, deform
from pointpeft.data.procedural.programs import PROGRAMS
from pointpeft.errors import DataError, nearest_hint

__all__ = ["PROGRAMS", "ProceduralShape", "procedural_clouds", "procedural_shape"]

_CUT, _DEFORMED, _TURNED = 0.15, 0.1, 0.4
"""Shares of the shapes that are cut by another solid, deformed as a whole, turned about y."""


@dataclass(frozen=True)
class ProceduralShape:
    """A sampled shape and what it is made of.

    Attributes:
        points: ``(N, 3)`` float32 on the surface, centred, in the unit ball, y up.
        seg: ``(N,)`` int64, places in ``parts``.
        parts: names of the kinds of parts, sorted.
        program: the name of the program that made it.
    """

    points: np.ndarray
    seg: np.ndarray
    parts: tuple[str, ...]
    program: str


def procedural_shape(
    index: int, seed: int = 0, num_points: int = 2048, program: str | None = None
) -> ProceduralShape:
    """The shape with a number: the same one whenever, and wherever, it is asked for.

    After "Learning 3D Representations from Procedural 3D Programs" (arXiv 2411.17467), with more
    programs: composed and deformed primitives, lathes, sweeps, wireframes, sheets, cut-outs and
    assemblies with repeated parts.

    Args:
        index: number of the shape, from 0 without end.
        seed: another stream for every seed.
        num_points: points on the surface, spread evenly over its area.
        program: one of ``PROGRAMS``; drawn when absent.

    Raises:
        DataError: no such program, or numbers that are negative or zero.
    """
    if index < 0 or seed < 0 or num_points < 1:
        raise DataError(
            f"index={index}, seed={seed}, num_points={num_points}: "
            "index and seed start at 0, num_points at 1"
        )
    if program is not None and program not in PROGRAMS:
        raise DataError(f"unknown program {program!r}: {nearest_hint(program, list(PROGRAMS))}")
    rng = np.random.default_rng((seed, index))
    name = program or str(rng.choice(list(PROGRAMS)))
    parts = _posed(rng, PROGRAMS[name](rng))
    names = tuple(sorted({part for part, _ in parts}))
    points, seg = _sample(rng, parts, names, num_points)
    order = rng.permutation(num_points)  # sampled face by face
    points, seg = points[order], seg[order]
    return ProceduralShape(_normalized(points), seg, names, name)


def procedural_clouds(indices: Iterable[int], seed: int = 0, num_points: int = 2048) -> np.ndarray:
    """Points of several shapes, ``(len(indices), num_points, 3)`` float32."""
    return np.stack([procedural_shape(i, seed, num_points).points for i in indices])


def _posed(rng: Generator, parts: list[Part]) -> list[Part]:
    """The whole, sometimes deformed, sometimes turned about the vertical axis."""
    if rng.random() < _DEFORMED:
        sizes = np.cumsum([len(mesh.vertices) for _, mesh in parts])[:-1]
        whole = Mesh(np.concatenate([mesh.vertices for _, mesh in parts]), np.empty((0, 3), int))
        pieces = np.split(deform(rng, whole).vertices, sizes)
        parts = [(name, Mesh(v, mesh.faces)) for (name, mesh), v in zip(parts, pieces, strict=True)]
    if rng.random() < _TURNED:
        quarter = rng.integers(1, 4) * np.pi / 2
        angle = quarter if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
        turn = rotation([0, 1, 0], float(angle))
        parts = [(name, mesh.turned(turn)) for name, mesh in parts]
    return parts


def _sample(
    rng: Generator, parts: list[Part], names: tuple[str, ...], num_points: int
) -> tuple[Array, Array]:
    """Points on the surface, ``(N, 3)``, and their parts, ``(N,)``."""
    triangles = np.concatenate([mesh.vertices[mesh.faces] for _, mesh in parts])
    kinds = np.repeat(
        [names.index(name) for name, _ in parts], [len(mesh.faces) for _, mesh in parts]
    )
    if rng.random() < _CUT:
        points, face = _scatter(rng, triangles, 2 * num_points)
        kept = np.flatnonzero(_outside(rng, points))
        if len(kept) >= num_points:
            kept = kept[np.linspace(0, len(kept) - 1, num_points).astype(int)]
            return points[kept], kinds[face[kept]]
    points, face = _scatter(rng, triangles, num_points)
    return points, kinds[face]


def _scatter(rng: Generator, triangles: Array, count: int) -> tuple[Array, Array]:
    """Evenly spread points on triangles ``(F, 3, 3)``, and the triangle of each.

    Steps of equal area along the faces, so that neighbouring triangles share points fairly.
    """
    corner, first, second = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    edges = first - corner, second - corner
    area = np.linalg.norm(np.cross(*edges), axis=1)
    total = np.cumsum(area)
    steps = (np.arange(count) + rng.random(count)) * (total[-1] / count)
    face = np.minimum(np.searchsorted(total, steps), len(area) - 1)
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return corner[face] + u * edges[0][face] + v * edges[1][face], face


def _outside(rng: Generator, points: Array) -> Array:
    """Which points a random cutter leaves, ``(N,)``: half-space, ball, box or endless rod."""
    low, high = points.min(axis=0), points.max(axis=0)
    place = rng.uniform(low, high)
    local = (points - place) / np.maximum(high - low, 1e-6)
    kind = rng.integers(4)
    if kind == 0:
        return local @ rng.normal(size=3) > -0.1
    size = rng.uniform(0.1, 0.35, 3)
    if kind == 1:
        return ((local / size) ** 2).sum(axis=1) > 1
    if kind == 2:
        return (np.abs(local) > size).any(axis=1)
    axes = rng.permutation(3)[:2]
    return ((local[:, axes] / size[:2]) ** 2).sum(axis=1) > 1


def _normalized(points: Array) -> Array:
    points = points - points.mean(axis=0)
    radius = np.linalg.norm(points, axis=1).max()
    return (points / max(float(radius), 1e-9)).astype(np.float32)
