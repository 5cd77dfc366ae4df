"""How clouds are shown to an image encoder: sides, and what is drawn of them."""

import abc
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pointpeft.errors import ConfigError
from pointpeft.vision.faces import Mesh, orbit_mesh
from pointpeft.vision.projection import (
    NUM_VIEWS,
    Raster,
    draw,
    fit_raster,
    scale_gray,
    to_images,
    view_clouds,
)
from pointpeft.vision.shading import orbit_clouds, shade, spacing

__all__ = ["DepthSums", "ShadedViews", "Views", "ViewsName", "make_views"]

ViewsName = Literal["depth", "shaded"]


class Views(abc.ABC):
    """Sides from which clouds are seen, and images of them.

    Attributes:
        count: V, images of a cloud.
        draws_faces: whether meshes are drawn by their faces.
    """

    count: int
    draws_faces = False

    @abc.abstractmethod
    def clouds(self, points: Tensor) -> Tensor:
        """``(B, N, 3) -> (V B, N, 3)``: row, column and depth, all of one side before the next."""

    @abc.abstractmethod
    def images(self, clouds: Tensor, raster: Raster) -> Tensor:
        """What an encoder is shown of them, ``(V B, 3, S, S)`` in ImageNet's scaling."""

    def show(self, points: Tensor, size: int, meshes: Sequence[Mesh | None] = ()) -> Tensor:
        """Images of shapes, ``(B, N, 3) -> (V B, 3, S, S)``, as of :meth:`images`.

        Args:
            points: y up.
            size: S, see :func:`pointpeft.vision.fit_raster`.
            meshes: of each shape, None of a cloud; none at all: all are clouds. The points of a
                mesh are not drawn if its faces are.
        """
        clouds = self.clouds(points)
        return self.images(clouds, fit_raster(clouds, size))


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

    Clouds are drawn as splats, meshes by their faces.

    Args:
        count: V.
        elevation: of the cameras above the horizon, in degrees.
    """

    draws_faces = True

    def __init__(self, count: int = 4, elevation: float = 20.0) -> None:
        self.count, self.elevation = count, elevation

    def clouds(self, points: Tensor) -> Tensor:
        """As the cameras see them."""
        return orbit_clouds(points, self.count, self.elevation)

    def images(self, clouds: Tensor, raster: Raster) -> Tensor:
        """Light and shade before a white ground."""
        distances = spacing(clouds[: len(clouds) // self.count])  # the same from every side
        return scale_gray(shade(clouds, raster, distances.repeat(self.count, 1)))

    def show(self, points: Tensor, size: int, meshes: Sequence[Mesh | None] = ()) -> Tensor:
        """Faces of the shapes that have some, points of the others."""
        if not any(meshes):
            return super().show(points, size)
        shapes = zip(points.split(1), meshes, strict=True)
        return torch.stack([self._one(*shape, size) for shape in shapes], dim=1).flatten(0, 1)

    def _one(self, points: Tensor, mesh: Mesh | None, size: int) -> Tensor:
        """Images ``(V, 3, S, S)`` of a shape."""
        if mesh is None:
            return super().show(points, size)
        return scale_gray(orbit_mesh(mesh, self.count, self.elevation, size))


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
