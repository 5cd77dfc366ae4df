"""I2P-MAE: point cloud masked autoencoders that learn from pre-trained image encoders.

Zhang et al., CVPR 2023, arXiv 2212.06785. The network is Point-M2AE. Pre-training also shows the
cloud from three sides to a frozen image encoder: what is salient there is more likely to stay
visible, and its features are rebuilt for visible groups as points are for hidden ones.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import check_choices, check_sizes
from pointpeft.models.masking import patch_mask, salience_mask
from pointpeft.models.point_m2ae import PointM2AE
from pointpeft.models.point_m2ae_pretraining import (
    MaskedClouds,
    PointM2AEPretraining,
    PointM2AEPretrainingConfig,
)
from pointpeft.models.semantics import SeenClouds, features_at, look_at
from pointpeft.ops import gather_points
from pointpeft.ops.chamfer import rebuilding_error
from pointpeft.vision import (
    Teacher,
    back_project,
    load_teacher,
    make_views,
)

__all__ = ["I2PMAE", "I2PMAEPretraining", "I2PMAEPretrainingConfig"]


@dataclass(frozen=True)
class I2PMAEPretrainingConfig(PointM2AEPretrainingConfig):
    """Settings of masked pre-training with an image encoder; those of the paper.

    Without ``points_per_group``, as many points are rebuilt as groups of the decoded scale have.
    """

    semantics: float = 1.0  # weight of rebuilding the teacher's features of visible groups
    guided_mask: bool = True  # what is salient to the teacher is more likely to stay visible
    teacher: str = "ViT-B/16"  # a name, weights of OpenAI's CLIP, or a transformers folder
    teacher_image_size: int | None = None  # side of an image in pixels; None: its own, or 224
    views: str = "depth"  # what it is shown: sums of depths, or "shaded" surfaces
    teacher_patch_size: int = 16  # side of a patch in pixels, of the random teacher
    teacher_channels: int = 512  # of the random teacher

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("teacher_patch_size", "teacher_channels"))
        check_choices(self, ["guided_mask"], (True, False))


class I2PMAE(PointM2AE):
    """The encoder of I2P-MAE: Point-M2AE's, with a retrieval feature of its own."""

    def pool_retrieved(self, tokens: Tensor) -> Tensor:
        """The maximum alone, ``(B, G, C) -> (B, C)``."""
        return tokens.amax(dim=1)


class I2PMAEPretraining(PointM2AEPretraining):
    """Multi-scale masked autoencoding of points and of image features.

    Args:
        backbone: the encoder to pre-train.
        config: masking, decoder and teacher.
        teacher: the image encoder; None: loaded as ``config`` says, if a term or the mask needs
            one. It is no part of the model's parameters and weights.
    """

    pretraining_config: I2PMAEPretrainingConfig
    has_own_semantics: ClassVar[bool] = True

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
        if teacher is None and (c.semantics or c.guided_mask or c.distillation):
            teacher = load_teacher(
                c.teacher, c.teacher_image_size, c.teacher_patch_size, c.teacher_channels
            )
        super().__init__(backbone, dataclasses.replace(c, points_per_group=points), teacher)
        self.teacher, self.views = teacher, make_views(c.views, c.num_views)
        channels = self._members * self.views.count
        channels *= c.teacher_channels if teacher is None else teacher.channels
        self.feature_head = nn.Linear(self.rec_head.in_features, channels)
        self.feature_head.requires_grad_(c.semantics > 0)
        self.decoder.requires_grad_(c.semantics > 0 or c.reconstruction > 0)

    def losses(
        self, points: Tensor, mask: Tensor | None = None, seen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The errors of rebuilt points and image features (Sec. 3.3), and terms on whole clouds.

        Arguments are those of :class:`PointM2AEPretraining`.
        """
        c, losses = self.pretraining_config, {}
        levels = self.backbone.group(points)
        views = self.look(points) if self.looks_at_batches else None
        centers = levels[-1].centers
        if mask is None and views is not None and c.guided_mask:
            mask = self.draw_mask(views, centers)
        elif mask is None:
            mask = patch_mask(centers, c.mask_ratio, "random")
        masked = self.encode_groups(points, levels, mask)
        decoded = self.decode(masked) if c.semantics or c.reconstruction else None
        if c.reconstruction:
            losses["reconstruction"] = rebuilding_error(*self.rebuild(masked, decoded), norm="l2")
        if c.semantics and views is not None and decoded is not None:
            losses["semantics"] = F.mse_loss(*self.rebuild_features(masked, decoded, views))
        coarsest = masked.scales[-1]
        return losses | self.terms(points, *coarsest, seen)

    @property
    def looks_at_batches(self) -> bool:
        """Whether mask or loss hang on what the teacher sees of each batch."""
        c = self.pretraining_config
        return bool(c.semantics or c.guided_mask)

    def look(self, points: Tensor) -> SeenClouds:
        """Draw ``points (B, N, 3)`` from all sides and let the teacher look at it."""
        assert self.teacher is not None, "loaded where something needs it"
        return look_at(points, self.views, self.teacher)

    def saliency(self, views: SeenClouds, centers: Tensor) -> Tensor:
        """How salient ``centers (B, G, 3)`` are, the mean over the sides, ``(B, G)``."""
        values = back_project(views.saliency, views.raster, self.views.clouds(centers))
        return values.view(self.views.count, *centers.shape[:2]).mean(dim=0)

    def draw_mask(self, views: SeenClouds, centers: Tensor) -> Tensor:
        """Hide groups of the coarsest scale, ``centers (B, G, 3)``, the salient ones least.

        Attention is of the order of 1 / 200, so that probabilities are nearly uniform with the
        paper's teacher (Sec. 3.2 has no temperature).
        """
        num_hidden = int(self.pretraining_config.mask_ratio * centers.shape[1])
        return salience_mask(self.saliency(views, centers), num_hidden)

    def rebuild_features(
        self, masked: MaskedClouds, decoded: Tensor, views: SeenClouds
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

    def _feature_target(self, masked: MaskedClouds, visible: Tensor, views: SeenClouds) -> Tensor:
        """The teacher's features of the members of groups, ``visible (B, G) -> (V, K, 3 c)``.

        Members are looked up, not added up from centers and offsets: the pixel of a point hangs on
        its last bit.
        """
        place = len(masked.levels) - len(self.pretraining_config.decoder_depths)
        parents = masked.levels[place - 1].centers if place else masked.points
        members = gather_points(parents, masked.levels[place].indices)[visible]
        return features_at(views, self.views, members, visible.nonzero()[:, 0])
