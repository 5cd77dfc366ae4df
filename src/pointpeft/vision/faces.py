"""Meshes drawn by their faces: an exact z-buffer of triangles, lit as clouds are.

A triangle covers the pixels whose middle lies in it. They are found line by line, so that large,
small and thin triangles all cost about as much as they cover.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.vision.projection import Raster, fit_raster
from pointpeft.vision.shading import brightness, orbit_clouds

__all__ = ["Mesh", "draw_faces", "orbit_mesh"]

_TRIANGLES, _PIXELS = 1 << 17, 1 << 19  # at once: triangles, and pixels that they cover
_EDGE_ON = 1e-9  # cosine to the eye below which a face is seen from its edge, and covers nothing
_SLACK = 1e-3  # pixels by which triangles are larger, so that neighbours leave no gap


class Mesh(NamedTuple):
    """A surface of triangles, in the frame of the cloud that it belongs to.

    Attributes:
        vertices: ``(N, 3)``.
        faces: int64 ``(F, 3)``, places in the vertices, in any order: no side is the outer one.
    """

    vertices: Tensor
    faces: Tensor


def orbit_mesh(mesh: Mesh, num_views: int, elevation: float, size: int) -> Tensor:
    """A mesh as cameras around the up axis see it, float32 ``(V, S, S)`` in [0, 1].

    Args:
        mesh: y up.
        num_views: V, see :func:`pointpeft.vision.shading.orbit_clouds`.
        elevation: of the cameras above the horizon, in degrees.
        size: S, see :func:`pointpeft.vision.fit_raster`.

    Raises:
        ValueError: there is no face.
    """
    if not len(mesh.faces):
        raise ValueError("mesh must have at least one face: draw its points")
    views = orbit_clouds(mesh.vertices.unsqueeze(0), num_views, elevation)
    used = mesh.faces.unique()
    return draw_faces(views, mesh.faces, fit_raster(views[:, used], size))


def draw_faces(views: Tensor, faces: Tensor, raster: Raster) -> Tensor:
    """Brightness of the views' pixels, float32 ``(R, S, S)`` in [0, 1]; 1 is the ground.

    Of all faces on a pixel the nearest is seen, from either side. Each is lit by its own normal.
    Faces without an area are left out, and so is what lies beyond the image.

    Args:
        views: vertices as each camera sees them: row, column and nearness, ``(R, N, 3)``.
        faces: int64 ``(F, 3)``.
        raster: where the vertices fall.
    """
    return torch.stack([_draw(each, faces, raster.size) for each in _in_pixels(views, raster)])


def _draw(vertices: Tensor, faces: Tensor, size: int) -> Tensor:
    """The image of one view, from vertices ``(N, 3)`` in pixels."""
    nearest = vertices.new_full((size * size,), -torch.inf)
    image = vertices.new_ones(size * size)
    for few in faces.split(_TRIANGLES):
        for covered in _covered(_triangles(vertices[few]), size):
            _show(covered, nearest, image)
    return image.float().view(size, size)


def _in_pixels(views: Tensor, raster: Raster) -> Tensor:
    """Coordinates in pixels, float64 ``(R, N, 3)``; whole numbers are borders between pixels."""
    cell = raster.cell.double()
    plane = (views[..., :2].double() - raster.lowest) / cell + 1 + raster.shift
    return torch.cat([plane, views[..., 2:].double() / cell], dim=-1)


class _Triangles(NamedTuple):
    """Triangles ``(T, 3, 3)``, corners sorted by row, their normals ``(T, 3)`` and brightness."""

    corners: Tensor
    normals: Tensor
    light: Tensor

    def select(self, rows: Tensor) -> "_Triangles":
        """Some of them."""
        return _Triangles(self.corners[rows], self.normals[rows], self.light[rows])


class _Covered(NamedTuple):
    """Pixels ``(P,)`` that triangles cover: number in the image, nearness, brightness."""

    place: Tensor
    near: Tensor
    light: Tensor


def _triangles(corners: Tensor) -> _Triangles:
    """Those of ``(T, 3, 3)`` that have an area as they are seen."""
    order = corners[..., 0].argsort(dim=1).unsqueeze(-1).expand_as(corners)
    corners = corners.gather(1, order)
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    unit = F.normalize(normals, dim=1)
    kept = unit[:, 2].abs() > _EDGE_ON
    unit = (unit * unit[:, 2:].sign())[kept]  # towards the eye
    return _Triangles(corners[kept], normals[kept], brightness(unit))


def _covered(triangles: _Triangles, size: int) -> Iterator[_Covered]:
    """What triangles cover of an image of ``size`` x ``size``, some of them at a time."""
    corners = triangles.corners[..., :2]
    first, last = _middles(corners.amin(dim=1), corners.amax(dim=1), size)
    height, width = (last - first + 1).clamp(min=0).unbind(-1)
    area = triangles.normals[:, 2].abs() / 2
    most = torch.minimum(height * width, (area + height + width).long() + 1)
    inside = (height * width).nonzero().squeeze(1)
    chunks = (most[inside].cumsum(0) // _PIXELS).unique_consecutive(return_counts=True)[1]
    for few in inside.split(chunks.tolist()):
        yield _fill(triangles.select(few), first[few, 0], height[few], size)


def _middles(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first and the last pixel whose middle lies between two places."""
    first = (low - 0.5 - _SLACK).ceil().clamp(0, size).long()
    return first, (high - 0.5 + _SLACK).floor().clamp(-1, size - 1).long()


def _fill(triangles: _Triangles, first: Tensor, height: Tensor, size: int) -> _Covered:
    """The pixels of triangles, each from line ``first (T,)`` on over ``height (T,)`` lines."""
    corners, normals, light = triangles
    which, step = _expand(height)
    row = first[which] + step
    left, right = _ends(corners[which, :, :2], row + 0.5)
    start, end = _middles(left, right, size)
    line, step = _expand((end - start + 1).clamp(min=0))
    which, row, column = which[line], row[line], start[line] + step
    begin, normal = corners[which, 0], normals[which]
    down, across = row + 0.5 - begin[:, 0], column + 0.5 - begin[:, 1]
    near = begin[:, 2] - (normal[:, 0] * down + normal[:, 1] * across) / normal[:, 2]
    depths = corners[..., 2]  # a pixel is no nearer than the triangle, however steep that is
    near = near.clamp(depths.amin(dim=1)[which], depths.amax(dim=1)[which])
    return _Covered(row * size + column, near, light[which])


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For ``counts`` 2, 3: whose each place is, 0, 0, 1, 1, 1, and its number, 0, 1, 0, 1, 2."""
    whose = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    starts = (counts.cumsum(0) - counts)[whose]
    return whose, torch.arange(len(whose), device=counts.device) - starts


def _ends(corners: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Columns between which lines at ``row (L,)`` lie in triangles ``(L, 3, 2)``, sorted by row."""
    top, middle, bottom = corners.unbind(1)
    upper = (row < middle[:, 0]).unsqueeze(1)
    one = _cross(top, bottom, row)
    other = _cross(torch.where(upper, top, middle), torch.where(upper, middle, bottom), row)
    return torch.minimum(one, other), torch.maximum(one, other)


def _cross(start: Tensor, end: Tensor, row: Tensor) -> Tensor:
    """Columns at which edges from ``start (L, 2)`` to ``end`` meet lines."""
    length = end[:, 0] - start[:, 0]
    part = ((row - start[:, 0]) / length.where(length > 0, 1.0)).clamp(0, 1)
    return start[:, 1] + part * (end[:, 1] - start[:, 1])


def _show(covered: _Covered, nearest: Tensor, image: Tensor) -> None:
    """Put what is nearest into an image; of faces at the same place the brightest is seen."""
    place, near, light = covered
    before = nearest.clone()
    nearest.scatter_reduce_(0, place, near, "amax")
    image[nearest > before] = 0.0  # what was seen there is covered now
    seen = near == nearest[place]
    image.scatter_reduce_(0, place[seen], light[seen], "amax")
