"""What an image encoder says about points: feature maps read where the points were drawn.

A map is meant to be enlarged to the size of the image by bicubic interpolation (I2P-MAE, Sec. 3.2
and 3.3). It never is: a point needs one pixel of it, which depends on 16 cells of the map.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.vision.projection import Raster

__all__ = ["back_project", "sample_bicubic"]

_SHARPNESS = -0.75  # of the cubic kernel; the value of every common image library but one


def back_project(
    maps: Tensor, raster: Raster, points: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Features of points from the maps of the views that show them.

    Args:
        maps: ``(R, C, h, w)``.
        raster: of the R views.
        points: coordinates in their view, ``(Q, M, 3)``, taken from the clouds that were drawn.
        rows: int64 ``(Q,)``, the view of each; None: the R views in order.

    Returns:
        ``(Q, M, C)``.
    """
    if rows is None:
        rows = torch.arange(len(points), device=points.device)
    pixels = raster.select(rows).pixels(points)
    M = points.shape[1]
    values = sample_bicubic(maps, rows.repeat_interleave(M), pixels.flatten(0, 1), raster.size)
    return values.view(len(points), M, -1)


def sample_bicubic(maps: Tensor, rows: Tensor, pixels: Tensor, size: int) -> Tensor:
    """Single pixels of maps that are enlarged to ``size`` x ``size``, ``(P, C)``.

    Half-pixel centers, no antialiasing, borders repeated: what ``F.interpolate`` computes.

    Args:
        maps: ``(R, C, h, w)``.
        rows: int64 ``(P,)``, which map.
        pixels: int64 ``(P, 2)``, row and column in the enlarged map.
        size: pixels along each side of the enlarged map.
    """
    C, h, w = maps.shape[1:]
    table = maps.permute(0, 2, 3, 1).reshape(-1, C)
    lines, down = _taps(pixels[:, 0], h, size, maps.dtype)
    columns, across = _taps(pixels[:, 1], w, size, maps.dtype)
    cells = (rows.view(-1, 1, 1) * h + lines.unsqueeze(2)) * w + columns.unsqueeze(1)
    weights = down.unsqueeze(2) * across.unsqueeze(1)  # (P, 4, 4)
    # Sums rows of the table as it reads them, without a (P, 16, C) tensor in between.
    return F.embedding_bag(
        cells.flatten(1), table, per_sample_weights=weights.flatten(1), mode="sum"
    )


def _taps(pixels: Tensor, length: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cells that ``pixels (P,)`` depend on along one axis, and their weights, ``(P, 4)`` each."""
    source = (pixels.to(dtype) + 0.5) * (length / size) - 0.5
    first = source.floor()
    t = (source - first).unsqueeze(-1)
    distance = torch.cat([1 + t, t, 1 - t, 2 - t], dim=-1)
    steps = torch.arange(-1, 3, device=pixels.device)
    cells = (first.long().unsqueeze(-1) + steps).clamp(0, length - 1)
    return cells, _cubic(distance)


def _cubic(x: Tensor) -> Tensor:
    """The cubic convolution kernel (Keys 1981, Eq. 15) at distances in [0, 2]."""
    a = _SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x.square() + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, far)
