"""Clouds drawn as surfaces: the nearest splats, lit from above, before a white ground.

Image encoders were trained on photographs: light and shade tell them more of a surface than sums
of depths, which say how densely it was sampled.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.ops import knn
from pointpeft.ops._numerics import full_precision
from pointpeft.vision.projection import Raster

__all__ = ["brightness", "orbit_clouds", "shade", "spacing"]

_LIGHT = (-0.75, -0.35, 0.55)  # towards the light: up, a little to the left, to the eye
_AMBIENT, _DIFFUSE = 0.15, 0.65  # together less than the ground, from which all stands out
_NEIGHBORS = 6  # splats reach most of the way to this neighbour, so that surfaces close
_REACH = 5  # pixels of a splat's radius at most, in images of 128
_STEPS = (3, 2, 1, 1)  # rounds of smoothing, wide ones first: bumps are as wide as discs are
_BEND = 6.0  # pixels in depth, for one along the image, beyond which there are two surfaces


def orbit_clouds(points: Tensor, num_views: int, elevation: float = 20.0) -> Tensor:
    """Clouds as cameras around the up axis y see them, ``(B, N, 3) -> (V B, N, 3)``.

    Args:
        points: y up.
        num_views: V, evenly spread over the circle.
        elevation: of the cameras above the horizon, in degrees.

    Returns:
        Row (down), column (to the right) and nearness of every point; all clouds of the first
        view before those of the second.
    """
    tilt, views = math.radians(elevation), []
    for view in range(num_views):
        turn = 2 * math.pi * (view + 0.5) / num_views
        sin, cos = math.sin(turn), math.cos(turn)
        down = (sin * math.sin(tilt), -math.cos(tilt), cos * math.sin(tilt))
        eye = (sin * math.cos(tilt), math.sin(tilt), cos * math.cos(tilt))
        with full_precision(points):  # half of it would move points to other pixels
            views.append(points @ points.new_tensor([down, (cos, 0.0, -sin), eye]).T)
    return torch.cat(views)


def spacing(points: Tensor) -> Tensor:
    """How far the neighbours of each point are, ``(B, N, 3) -> (B, N)``."""
    return knn(points, points, min(_NEIGHBORS, points.shape[1]))[0][..., -1].sqrt()


def shade(clouds: Tensor, raster: Raster, distances: Tensor) -> Tensor:
    """Brightness of the views' pixels, ``(R, N, 3) -> float32 (R, S, S)`` in [0, 1].

    Every point is a disc that faces the eye, as large as its neighbours are far. Of all discs on
    a pixel the nearest is seen. Normals are those of the smoothed depth.

    Args:
        clouds: views, see :func:`orbit_clouds`.
        raster: that fits them.
        distances: to the neighbours of each point, ``(R, N)``, see :func:`spacing`.
    """
    depth = _depth(clouds, raster, distances)
    seen = depth.isfinite()
    for step in _STEPS:
        depth = _smooth(depth, max(step * raster.size // 128, 1))
    return torch.where(seen, _light(depth), 1.0)


def _depth(clouds: Tensor, raster: Raster, distances: Tensor) -> Tensor:
    """Nearness of what is seen, in pixels, ``(R, S, S)``; -inf where there is nothing."""
    (R, N, _), S = clouds.shape, raster.size
    most = max(_REACH * S // 128, 1)
    side = S + 2 * most  # discs may pass the border
    radius = (0.75 * distances / raster.cell.squeeze(-1)).round().clamp(1, most).flatten()
    row, column = (raster.pixels(clouds) + most).flatten(0, 1).unbind(-1)
    view = torch.arange(R, device=clouds.device).repeat_interleave(N)
    place = (view * side + row) * side + column
    near = (clouds[..., 2].float() / raster.cell.squeeze(-1)).flatten()
    image = near.new_full((R * side * side,), -torch.inf)
    for reach in range(1, most + 1):
        line = torch.arange(-reach, reach + 1, device=clouds.device)
        down, right = torch.cartesian_prod(line, line).unbind(1)
        disc = (down * side + right)[down.square() + right.square() <= (reach + 0.5) ** 2]
        mine = radius == reach
        pixels = place[mine].unsqueeze(1) + disc
        nearness = near[mine].repeat_interleave(len(disc))
        image.scatter_reduce_(0, pixels.flatten(), nearness, "amax")
    return image.view(R, side, side)[:, most:-most, most:-most]


def _smooth(depth: Tensor, step: int) -> Tensor:
    """Mean over 3 x 3 pixels, ``step`` apart, as far as they belong to the same surface."""
    padded = F.pad(depth, (step, step, step, step), value=-torch.inf)
    total, count = torch.zeros_like(depth), torch.zeros_like(depth)
    S = depth.shape[1]
    for row in range(0, 3 * step, step):
        for column in range(0, 3 * step, step):
            other = padded[:, row : row + S, column : column + S]
            same = (other - depth).abs() <= step * _BEND  # inf - inf is nan, which is not
            total += torch.where(same, other, 0.0)
            count += same
    return torch.where(count > 0, total / count, depth)


def _light(depth: Tensor) -> Tensor:
    """Brightness of every pixel by its normal, from the slopes towards its neighbours."""
    slopes = []
    for dim in (1, 2):
        ahead, behind = depth.roll(-1, dim) - depth, depth - depth.roll(1, dim)
        steep = torch.where(ahead.abs() < behind.abs(), ahead, behind)
        both = (ahead.abs() <= _BEND) & (behind.abs() <= _BEND)
        slope = torch.where(both, (ahead + behind) / 2, steep)
        slopes.append(torch.where(slope.abs() <= _BEND, slope, 0.0))
    normal = F.normalize(torch.stack([-slopes[0], -slopes[1], torch.ones_like(depth)], -1), dim=-1)
    return brightness(normal)


def brightness(normals: Tensor) -> Tensor:
    """Of surfaces in [0, 1], ``(..., 3) -> (...)``, by unit normals: row, column and nearness."""
    light = F.normalize(normals.new_tensor(_LIGHT), dim=0)
    with full_precision(normals):
        return _AMBIENT + _DIFFUSE * (normals @ light).clamp(min=0)
