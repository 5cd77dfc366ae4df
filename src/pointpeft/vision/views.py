"""How clouds are shown to an image encoder: sides, and what is drawn of them."""

import abc
from typing import Literal

from torch import Tensor

from pointpeft.errors import ConfigError
from pointpeft.vision.projection import NUM_VIEWS, Raster, draw, scale_gray, to_images, view_clouds
from pointpeft.vision.shading import orbit_clouds, shade, spacing

__all__ = ["DepthSums", "ShadedViews", "Views", "ViewsName", "make_views"]

ViewsName = Literal["depth", "shaded"]


class Views(abc.ABC):
    """Sides from which clouds are seen, and images of them.

    Attributes:
        count: V, images of a cloud.
    """

    count: int

    @abc.abstractmethod
    def clouds(self, points: Tensor) -> Tensor:
        """``(B, N, 3) -> (V B, N, 3)``: row, column and depth, all of one side before the next."""

    @abc.abstractmethod
    def images(self, clouds: Tensor, raster: Raster) -> Tensor:
        """What an encoder is shown of them, ``(V B, 3, S, S)`` in ImageNet's scaling."""


class DepthSums(Views):
    """Three sides along the axes; the depths of all points on a pixel are added (I2P-MAE)."""

    count = NUM_VIEWS

    def clouds(self, points: Tensor) -> Tensor:
        """The three sides."""
        return view_clouds(points)

    def images(self, clouds: Tensor, raster: Raster) -> Tensor:
        """A sigmoid of the sums."""
        return to_images(draw(clouds, raster))


class ShadedViews(Views):
    """Cameras around the up axis y, a little above; surfaces are lit from above.

    Args:
        count: V.
        elevation: of the cameras above the horizon, in degrees.
    """

    def __init__(self, count: int = 4, elevation: float = 20.0) -> None:
        self.count, self.elevation = count, elevation

    def clouds(self, points: Tensor) -> Tensor:
        """As the cameras see them."""
        return orbit_clouds(points, self.count, self.elevation)

    def images(self, clouds: Tensor, raster: Raster) -> Tensor:
        """Light and shade before a white ground."""
        distances = spacing(clouds[: len(clouds) // self.count])  # the same from every side
        return scale_gray(shade(clouds, raster, distances.repeat(self.count, 1)))


def make_views(name: str, count: int | None = None) -> Views:
    """The views called ``name``, "depth" or "shaded".

    Args:
        name: see above.
        count: images of a cloud; None: three for "depth", four for "shaded".

    Raises:
        ConfigError: another name, or "depth" with another count than three.
    """
    if name == "depth":
        if count not in (None, NUM_VIEWS):
            raise ConfigError(f"views=depth has {NUM_VIEWS} sides, got num_views={count}")
        return DepthSums()
    if name == "shaded":
        return ShadedViews(4 if count is None else count)
    raise ConfigError(f"views must be 'depth' or 'shaded', got {name!r}")
