"""Depth images of clouds from three sides (I2P-MAE, Sec. 3.2), and what images say about points.

Coordinates are rasterised in float32 whatever the precision of the model: which pixel a point
falls on hangs on the rounding of one division. R counts images: all clouds of a batch from the
first side, then from the second, then from the third.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "IMAGENET",
    "LEAST_SIZE",
    "NUM_VIEWS",
    "Raster",
    "Scaling",
    "back_project",
    "draw",
    "fit_raster",
    "sample_bicubic",
    "scale_gray",
    "to_images",
    "unscale_gray",
    "view_clouds",
]

_AXES = ((0, 1, 2), (2, 0, 1), (1, 2, 0))  # row, column and drawn value of each view
NUM_VIEWS = len(_AXES)
"""Sides from which a cloud is seen."""

_REACH = 2  # a point is drawn this many pixels far in each direction
_MARGIN = 3  # pixels of the image's side that the extent of a cloud does not cover
LEAST_SIZE = 2 * _MARGIN
"""Pixels that the side of an image must have at least; it must be even."""


class Scaling(NamedTuple):
    """How an encoder wants images: of each colour in [0, 1] the mean off, then by the deviation."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""As in the paper's code, although the paper's teacher, CLIP, was trained with its own."""


class Raster(NamedTuple):
    """Where the points of each view fall in its image.

    Attributes:
        lowest: float32 ``(R, 1, 2)``, least row and column coordinate of the view's cloud.
        cell: float32 ``(R, 1, 1)``, side of a pixel in the unit of the cloud.
        shift: int64 ``(R, 1, 2)``, pixels that move the shorter side to the middle of the image.
        size: S, pixels along each side of the image.
    """

    lowest: Tensor
    cell: Tensor
    shift: Tensor
    size: int

    def cells(self, points: Tensor) -> Tensor:
        """Cells of ``points (R, M, 3)`` before they are moved, int64 ``(R, M, 2)``."""
        return ((points[..., :2].float() - self.lowest) / self.cell).floor().long()

    def pixels(self, points: Tensor) -> Tensor:
        """Row and column of ``points (R, M, 3)`` of the views, int64 ``(R, M, 2)``.

        What lies outside the cloud that the raster was fitted to may lie outside the image.
        """
        return self.cells(points) + 1 + self.shift

    def select(self, rows: Tensor) -> "Raster":
        """The raster of the views ``rows (Q,)``, in that order."""
        return Raster(self.lowest[rows], self.cell[rows], self.shift[rows], self.size)


def view_clouds(points: Tensor) -> Tensor:
    """Clouds as seen from each side, ``(B, N, 3) -> (R, N, 3)``: row, column, depth."""
    return torch.cat([points[..., list(axes)] for axes in _AXES])


def fit_raster(clouds: Tensor, size: int = 224) -> Raster:
    """The raster that fits the longer side of every view into its image.

    Args:
        clouds: views ``(R, N, 3)``, see :func:`view_clouds`.
        size: S, even.

    Raises:
        ValueError: an odd or very small ``size``.
    """
    if size % 2 or size < LEAST_SIZE:
        raise ValueError(f"size must be an even number of at least {LEAST_SIZE}, got {size}")
    plane = clouds[..., :2].float()
    lowest, highest = plane.amin(dim=1, keepdim=True), plane.amax(dim=1, keepdim=True)
    cell = (highest - lowest).amax(dim=-1, keepdim=True) / (size - _MARGIN)
    # A cloud without an extent falls on one pixel.
    cell = cell.clamp(min=torch.finfo(cell.dtype).tiny)
    raster = Raster(lowest, cell, torch.zeros_like(lowest, dtype=torch.int64), size)
    last = raster.cells(clouds).amax(dim=1, keepdim=True)
    # The middle of cells 0 to ``last`` goes to the middle of the image.
    return raster._replace(shift=size // 2 - last // 2 - 2)


def draw(clouds: Tensor, raster: Raster) -> Tensor:
    """Sums of the depths of all points that reach a pixel, ``(R, N, 3) -> float32 (R, S, S)``.

    A point reaches the 5 x 5 pixels around its own. As in the paper, depths are signed and added:
    how bright a pixel is depends on how densely the surface is sampled.
    """
    R, N, _ = clouds.shape
    reach = torch.arange(-_REACH, _REACH + 1, device=clouds.device)
    # One pixel at most lies beyond the border, and joins it.
    lines = (raster.pixels(clouds).unsqueeze(-1) + reach).clamp(0, raster.size - 1)
    rows, columns = lines[:, :, 0, :, None], lines[:, :, 1, None, :]
    places = (rows * raster.size + columns).flatten(1)  # (R, N * 25)
    depths = clouds[..., 2:].float().expand(R, N, len(reach) ** 2).flatten(1)
    image = depths.new_zeros(R, raster.size**2).scatter_add_(1, places, depths)
    return image.view(R, raster.size, raster.size)


def to_images(sums: Tensor) -> Tensor:
    """Images for an encoder, ``(R, S, S) -> (R, 3, S, S)``: a sigmoid, then ImageNet's scaling."""
    return scale_gray(sums.sigmoid())


def scale_gray(brightness: Tensor, scaling: Scaling = IMAGENET) -> Tensor:
    """Gray images in [0, 1] as an encoder wants them, ``(R, S, S) -> (R, 3, S, S)``."""
    mean, std = (brightness.new_tensor(values).view(3, 1, 1) for values in scaling)
    return (brightness.unsqueeze(1) - mean) / std


def unscale_gray(images: Tensor) -> Tensor:
    """The brightness of gray images in ImageNet's scaling, ``(R, 3, S, S) -> (R, S, S)``."""
    return images[:, 0] * IMAGENET.std[0] + IMAGENET.mean[0]


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
