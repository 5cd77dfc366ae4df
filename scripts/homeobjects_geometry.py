"""Geometry behind ``build_homeobjects.py``: OBJ reading, surface sampling, near-duplicates.

All coordinates are y up, x to the right and z towards the viewer (the front of a model).
S shapes, N points, V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Sides of a bounding box below this share of the largest count as this large when a cloud is
# stretched: a plane cannot be stretched along its normal.
FLAT_SIDE = 1e-6


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh: `vertices` (V, 3) and `triangles` (F, 3), indices into the vertices."""

    vertices: FloatArray
    triangles: IntArray


def read_obj(text: str) -> Mesh:
    """Read the vertices and faces of a Wavefront OBJ file; polygons become triangle fans.

    Raises:
        ValueError: If the file holds no face.
    """
    vertices: list[tuple[float, float, float]] = []
    triangles: list[tuple[int, int, int]] = []
    for line in text.splitlines():
        if line.startswith("v "):
            x, y, z = line.split()[1:4]
            vertices.append((float(x), float(y), float(z)))
        elif line.startswith("f "):
            corners = [int(corner.split("/", 1)[0]) for corner in line.split()[1:]]
            # OBJ counts from 1; a negative index counts back from the latest vertex.
            ring = [c - 1 if c > 0 else len(vertices) + c for c in corners]
            triangles += [(ring[0], b, c) for b, c in pairwise(ring[1:])]
    if not triangles:
        raise ValueError("the OBJ file holds no face")
    return Mesh(np.array(vertices), np.array(triangles, dtype=np.int64))


def sample_surface(mesh: Mesh, num_points: int, rng: np.random.Generator) -> FloatArray:
    """Draw `num_points` points uniformly by area from the surface, shape (N, 3)."""
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]] for corner in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    cumulative = np.cumsum(areas)
    draws = rng.random(num_points) * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, draws, side="right"), len(areas) - 1)
    u, v = rng.random((2, num_points, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return a[face] + u * (b - a)[face] + v * (c - a)[face]


def farthest_point_order(points: FloatArray, count: int) -> IntArray:
    """Return `count` indices into `points` (N, 3) in farthest-point order.

    The first is the point farthest from the mean, so that the order does not depend on the order
    of the input.
    """
    axes = np.ascontiguousarray(points.T)
    order = np.empty(count, dtype=np.int64)
    order[0] = np.argmax(np.square(points - points.mean(axis=0)).sum(axis=1))
    distances = np.full(len(points), np.inf)
    for i in range(1, count):
        x, y, z = np.square(axes - axes[:, order[i - 1], None])
        np.minimum(distances, x + y + z, out=distances)
        order[i] = np.argmax(distances)
    return order


def unit_ball(points: FloatArray) -> FloatArray:
    """Move the mean of `points` (N, 3) to the origin and the farthest point to distance 1."""
    centered = points - points.mean(axis=0)
    return centered / np.linalg.norm(centered, axis=1).max()


def unit_box(points: FloatArray) -> FloatArray:
    """Stretch `points` (N, 3) so that their bounding box becomes [-1, 1] along every axis."""
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    return 2 * (points - low) / np.maximum(extent, FLAT_SIDE * extent.max()) - 1


def upright_symmetries() -> FloatArray:
    """Return the 8 turns and reflections of a box that keep y up, shape (8, 3, 3)."""
    symmetries = []
    for x_sign in (1, -1):
        for z_sign in (1, -1):
            straight = np.diag([x_sign, 1, z_sign]).astype(float)
            symmetries += [straight, straight[[2, 1, 0]]]
    return np.stack(symmetries)


def nearest_upright_distance(
    probe: FloatArray, tree: cKDTree, symmetries: FloatArray
) -> FloatArray:
    """Mean distance from `probe` (N, 3) to the cloud in `tree` under each symmetry, shape (8,)."""
    distances = np.asarray(tree.query(probe @ symmetries.transpose(0, 2, 1))[0])
    return distances.mean(axis=1)


def near_pairs(
    clouds: Sequence[FloatArray], num_probes: int, limit: float, moment_tolerance: float
) -> list[tuple[int, int, float]]:
    """Find the pairs of clouds that are alike up to size along each axis and upright symmetry.

    Args:
        clouds: S arrays (N, 3), each in farthest-point order.
        num_probes: how many leading points of one cloud are looked up in the other.
        limit: largest symmetric mean distance that is kept, in units of half a box side.
        moment_tolerance: pairs whose heights or horizontal radii differ by more than this in
            mean or spread are passed over unseen.

    Returns:
        (i, j, distance) with i < j. The distance is the larger of the two one-sided means.
    """
    boxes = [unit_box(cloud) for cloud in clouds]
    trees = [cKDTree(box) for box in boxes]
    moments = np.stack([_moments(box) for box in boxes])
    symmetries = upright_symmetries()
    pairs = []
    for i in range(len(boxes)):
        close = np.abs(moments[i + 1 :] - moments[i]).max(axis=1) <= moment_tolerance
        for j in (i + 1 + np.flatnonzero(close)).tolist():
            forth = nearest_upright_distance(boxes[i][:num_probes], trees[j], symmetries)
            if forth.min() > limit:
                continue
            inverse = symmetries.transpose(0, 2, 1)
            back = nearest_upright_distance(boxes[j][:num_probes], trees[i], inverse)
            distance = float(np.maximum(forth, back).min())
            if distance <= limit:
                pairs.append((i, j, distance))
    return pairs


def _moments(box: FloatArray) -> FloatArray:
    """Mean and spread of the height and of the distance from the upright axis, shape (4,)."""
    radius = np.hypot(box[:, 0], box[:, 2])
    return np.array([box[:, 1].mean(), box[:, 1].std(), radius.mean(), radius.std()])


def connected_groups(count: int, links: Iterable[tuple[int, int]]) -> IntArray:
    """Number the connected components of `count` items joined by `links` (union-find).

    Returns:
        A group number for every item, shape (count,), in order of first appearance.
    """
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    roots = np.array([root(item) for item in range(count)])
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
