"""I2P-MAE: point cloud masked autoencoders that learn from pre-trained image encoders.

Zhang et al., CVPR 2023, arXiv 2212.06785. The network is Point-M2AE. Pre-training also shows the
cloud from three sides to a frozen image encoder: what is salient there is more likely to stay
visible, and its features are rebuilt for visible groups as points are for hidden ones.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_sizes
from pointpeft.models.masking import salience_mask
from pointpeft.models.point_m2ae import PointM2AE
from pointpeft.models.point_m2ae_pretraining import (
    MaskedClouds,
    PointM2AEPretraining,
    PointM2AEPretrainingConfig,
)
from pointpeft.ops import gather_points
from pointpeft.ops.chamfer import rebuilding_error
from pointpeft.vision import (
    NUM_VIEWS,
    Raster,
    Teacher,
    back_project,
    draw,
    fit_raster,
    load_teacher,
    to_images,
    view_clouds,
)

__all__ = ["I2PMAE", "I2PMAEPretraining", "I2PMAEPretrainingConfig", "Views"]


@dataclass(frozen=True)
class I2PMAEPretrainingConfig(PointM2AEPretrainingConfig):
    """Settings of masked pre-training with an image encoder; those of the paper.

    Without ``points_per_group``, as many points are rebuilt as groups of the decoded scale have.
    """

    teacher: str = "ViT-B-16.pt"  # weights of OpenAI's CLIP, a transformers folder, or a name
    teacher_image_size: int = 224  # side of an image in pixels, of the random teacher
    teacher_patch_size: int = 16  # side of a patch in pixels, of the random teacher
    teacher_channels: int = 512  # of the random teacher

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("teacher_image_size", "teacher_patch_size", "teacher_channels"))
        if not isinstance(self.teacher, str) or not self.teacher:
            raise ConfigError(f"teacher must be a path or 'random', got {self.teacher!r}")


class I2PMAE(PointM2AE):
    """The encoder of I2P-MAE: Point-M2AE's, with a retrieval feature of its own."""

    def pool_retrieved(self, tokens: Tensor) -> Tensor:
        """The maximum alone, ``(B, G, C) -> (B, C)``."""
        return tokens.amax(dim=1)


class Views(NamedTuple):
    """A batch seen from all sides; R counts views, all clouds from one side before the next.

    Attributes:
        raster: where points were drawn.
        features: of the image encoder, ``(R, C, h, w)``.
        saliency: of the image encoder, ``(R, 1, h, w)``.
    """

    raster: Raster
    features: Tensor
    saliency: Tensor


class I2PMAEPretraining(PointM2AEPretraining):
    """Multi-scale masked autoencoding of points and of image features.

    Args:
        backbone: the encoder to pre-train.
        config: masking, decoder and teacher.
        teacher: the image encoder; None: loaded as ``config`` says. It is no part of the model's
            parameters and weights.

    Attributes:
        num_views: differently augmented copies of a batch that the loss wants.
    """

    pretraining_config: I2PMAEPretrainingConfig

    def __init__(
        self,
        backbone: PointM2AE,
        config: I2PMAEPretrainingConfig | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        c = config or I2PMAEPretrainingConfig()
        steps, sizes = len(c.decoder_depths), backbone.config.group_sizes
        self._members = sizes[-min(steps, len(sizes))]  # of a group of the decoded scale
        points = c.points_per_group or self._members
        super().__init__(backbone, dataclasses.replace(c, points_per_group=points))
        self.teacher = teacher or load_teacher(
            c.teacher, c.teacher_image_size, c.teacher_patch_size, c.teacher_channels
        )
        channels = self._members * NUM_VIEWS * self.teacher.channels
        self.feature_head = nn.Linear(self.rec_head.in_features, channels)

    def forward(self, points: Tensor, mask: Tensor | None = None) -> Tensor:
        """Chamfer loss of the rebuilt groups plus the error of the image features, a scalar.

        Args:
            points: ``(B, N, 3)``.
            mask: boolean ``(B, G)`` of the coarsest scale, True = hidden; drawn when absent.
        """
        return torch.stack(list(self.losses(points, mask).values())).sum()

    def losses(self, points: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The terms of the loss by name, which count alike (Sec. 3.3)."""
        levels, views = self.backbone.group(points), self.look(points)
        if mask is None:
            mask = self.draw_mask(views, levels[-1].centers)
        masked = self.encode_groups(points, levels, mask)
        decoded = self.decode(masked)
        rebuilt, target = self.rebuild(masked, decoded)
        return {
            "points": rebuilding_error(rebuilt, target, norm="l2"),
            "features": F.mse_loss(*self.rebuild_features(masked, decoded, views)),
        }

    def look(self, points: Tensor) -> Views:
        """Draw ``points (B, N, 3)`` from all sides and let the teacher look at it."""
        with torch.no_grad():
            clouds = view_clouds(points)
            raster = fit_raster(clouds, self.teacher.image_size)
            return Views(raster, *self.teacher(to_images(draw(clouds, raster))))

    def saliency(self, views: Views, centers: Tensor) -> Tensor:
        """How salient ``centers (B, G, 3)`` are, the mean over the sides, ``(B, G)``."""
        values = back_project(views.saliency, views.raster, view_clouds(centers))
        return values.view(NUM_VIEWS, *centers.shape[:2]).mean(dim=0)

    def draw_mask(self, views: Views, centers: Tensor) -> Tensor:
        """Hide groups of the coarsest scale, ``centers (B, G, 3)``, the salient ones least.

        Attention is of the order of 1 / 200, so that probabilities are nearly uniform with the
        paper's teacher (Sec. 3.2 has no temperature).
        """
        num_hidden = int(self.pretraining_config.mask_ratio * centers.shape[1])
        return salience_mask(self.saliency(views, centers), num_hidden)

    def rebuild_features(
        self, masked: MaskedClouds, decoded: Tensor, views: Views
    ) -> tuple[Tensor, Tensor]:
        """Image features of the members of visible groups as rebuilt, and the teacher's.

        Args:
            masked: the encoded batch.
            decoded: tokens of the last decoded scale, ``(B, G, C)``.
            views: what the teacher saw.

        Returns:
            Two tensors ``(V, K, 3 c)``: V visible groups of that scale in all, K members, and the c
            channels of the teacher for each side.
        """
        steps = len(self.pretraining_config.decoder_depths)
        visible = ~masked.scales[-steps].hidden
        rebuilt = self.feature_head(decoded[visible]).unflatten(1, (self._members, -1))
        return rebuilt, self._feature_target(masked, visible, views)

    def _feature_target(self, masked: MaskedClouds, visible: Tensor, views: Views) -> Tensor:
        """The teacher's features of the members of groups, ``visible (B, G) -> (V, K, 3 c)``.

        Members are looked up, not added up from centers and offsets: the pixel of a point hangs on
        its last bit.
        """
        place = len(masked.levels) - len(self.pretraining_config.decoder_depths)
        parents = masked.levels[place - 1].centers if place else masked.points
        members = gather_points(parents, masked.levels[place].indices)[visible]
        B, clouds = len(visible), visible.nonzero()[:, 0]
        rows = torch.cat([clouds + view * B for view in range(NUM_VIEWS)])
        seen = back_project(views.features, views.raster, view_clouds(members), rows)
        return seen.unflatten(0, (NUM_VIEWS, -1)).permute(1, 2, 0, 3).flatten(2)
