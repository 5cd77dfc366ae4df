"""What an image encoder sees of patches, and learning it from their tokens (I2P-MAE, Sec. 3.3)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.vision import Raster, Teacher, Views, back_project, fit_raster

__all__ = ["PatchSemantics", "SeenClouds", "features_at", "look_at"]


class SeenClouds(NamedTuple):
    """A batch seen from all sides; R counts views, all clouds from one side before the next.

    Attributes:
        raster: where points were drawn.
        features: of the image encoder, ``(R, C, h, w)``.
        saliency: of the image encoder, ``(R, 1, h, w)``.
    """

    raster: Raster
    features: Tensor
    saliency: Tensor


def look_at(points: Tensor, views: Views, teacher: Teacher) -> SeenClouds:
    """Draw ``points (B, N, 3)`` from all sides and let the teacher look at it."""
    with torch.no_grad():
        clouds = views.clouds(points)
        raster = fit_raster(clouds, teacher.image_size)
        return SeenClouds(raster, *teacher(views.images(clouds, raster)))


def features_at(seen: SeenClouds, views: Views, points: Tensor, clouds: Tensor) -> Tensor:
    """The teacher's features of points of clouds, those from one side behind those from another.

    Args:
        seen: what the teacher saw of the batch.
        views: how it was shown.
        points: that were drawn, ``(V, K, 3)``.
        clouds: places in the batch ``(V,)`` of the cloud that each K of them are of.

    Returns:
        ``(V, K, sides C)``.
    """
    B = len(seen.features) // views.count
    rows = torch.cat([clouds + side * B for side in range(views.count)])
    found = back_project(seen.features, seen.raster, views.clouds(points), rows)
    return found.unflatten(0, (views.count, -1)).permute(1, 2, 0, 3).flatten(2)


class PatchSemantics(nn.Module):
    """Predicts from the token of a patch what the teacher sees at its center.

    I2P-MAE predicts it of all points of a patch from the output of its decoder, see
    :class:`pointpeft.models.i2p_mae.I2PMAEPretraining`. Most decoders return no visible tokens, so
    here it is the encoder's, and their centers.

    Args:
        dim: channels C of a token.
        teacher: it is no part of the module's parameters and weights.
        views: how it is shown clouds.
    """

    def __init__(self, dim: int, teacher: Teacher, views: Views) -> None:
        super().__init__()
        self.teacher, self.views = teacher, views
        self.head = nn.Linear(dim, views.count * teacher.channels)

    def forward(
        self, points: Tensor, tokens: Tensor, centers: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """Mean squared error, a scalar.

        Args:
            points: ``(B, N, 3)``, y up where views are shaded.
            tokens: of patches, ``(B, T, C)``.
            centers: of these, points of the clouds, ``(B, T, 3)``.
            hidden: boolean ``(B, T)``, patches that do not count; None: all do.
        """
        seen = look_at(points, self.views, self.teacher)
        if hidden is None:
            hidden = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        clouds = (~hidden).nonzero()[:, 0]
        target = features_at(seen, self.views, centers[~hidden].unsqueeze(1), clouds)
        return F.mse_loss(self.head(tokens[~hidden]), target.squeeze(1))
