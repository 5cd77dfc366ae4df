"""Point-MAE's pre-training: most patches are hidden, and their points rebuilt (Sec. 3)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.layers import Block, drop_path_rates, position_mlp
from pointpeft.models.masking import MaskType, count_hidden, order_visible_first, patch_mask
from pointpeft.models.objective import ObjectiveConfig, Pretraining
from pointpeft.models.point_mae import PointMAE, init_decoder_weights, init_token
from pointpeft.models.trunk import Geometry, Stream
from pointpeft.ops.chamfer import rebuilding_error
from pointpeft.ops.gathering import select

__all__ = [
    "Decoder",
    "MaskedPatches",
    "MaskingConfig",
    "PointMAEPretraining",
    "PointMAEPretrainingConfig",
    "check_fit",
    "mask_patches",
]


@dataclass(frozen=True)
class MaskingConfig(ObjectiveConfig):
    """What all masked autoencoders of patches have: what is hidden, and what rebuilds it."""

    mask_ratio: float = 0.6  # share of the patches that is hidden
    mask_type: MaskType = "random"  # or "block": neighbours
    decoder_depth: int = 4  # blocks of the decoder
    decoder_num_heads: int = 6  # heads of its attention
    loss: Literal["l1", "l2"] = "l2"  # Chamfer distance, "l2" or "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, ["mask_type"], get_args(MaskType))
        check_choices(self, ["loss"], ("l1", "l2"))
        check_numbers(self, ["mask_ratio"])
        check_sizes(self, ("decoder_depth", "decoder_num_heads"))


@dataclass(frozen=True)
class PointMAEPretrainingConfig(MaskingConfig):
    """Settings of masked pre-training; the defaults are the published ones."""

    embed_masked: bool = True  # hidden patches also pass the mini-PointNet (BatchNorm sees them)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, ["embed_masked"], (True, False))


def check_fit(backbone: PointMAE, config: MaskingConfig) -> None:
    """Refuse settings of pre-training that an encoder cannot have.

    Raises:
        ConfigError: nothing or all would be hidden, or the decoder's heads do not divide ``dim``.
    """
    C, G, c = backbone.num_features, backbone.config.num_groups, config
    if not 0 < int(c.mask_ratio * G) < G:
        raise ConfigError(
            f"mask_ratio={c.mask_ratio} hides {int(c.mask_ratio * G)} of num_groups={G} "
            "patches; some must be hidden and some visible"
        )
    if C % c.decoder_num_heads:
        raise ConfigError(f"dim={C} must be a multiple of decoder_num_heads={c.decoder_num_heads}")


class Decoder(nn.Module):
    """Light transformer that rebuilds hidden tokens from visible ones."""

    def __init__(self, dim: int, depth: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        rates = drop_path_rates(drop_path, depth)
        self.blocks = nn.ModuleList(Block(dim, num_heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim)
        self.apply(init_decoder_weights)

    def forward(self, x: Tensor, positions: Tensor, num_hidden: int, geometry: Geometry) -> Tensor:
        """``(B, V + M, C) -> (B, M, C)``: the last ``num_hidden`` = M tokens, normalised."""
        for block in self.blocks:
            x = block(x + positions, geometry)
        return self.norm(x[:, -num_hidden:])


class MaskedPatches(NamedTuple):
    """Patches of a batch, and which of them are hidden.

    Attributes:
        neighborhoods: points relative to their centers, ``(B, G, S, 3)``.
        centers: ``(B, G, 3)``.
        visible: places of the visible patches, in ascending order, ``(B, V)``.
        hidden: those of the hidden ones, ``(B, M)``.
    """

    neighborhoods: Tensor
    centers: Tensor
    visible: Tensor
    hidden: Tensor

    def target(self) -> Tensor:
        """Points of the hidden patches relative to their centers, ``(B M, S, 3)``."""
        size = self.neighborhoods.shape[2:]
        return select(self.neighborhoods.flatten(2), self.hidden).flatten(0, 1).unflatten(1, size)


def mask_patches(
    backbone: PointMAE, points: Tensor, mask: Tensor | None, config: MaskingConfig
) -> MaskedPatches:
    """Group ``points (B, N, 3)`` and hide patches by ``mask (B, G)``, which is drawn when absent.

    Raises:
        DataError: the mask hides more patches of one cloud than of another, none, or all.
    """
    patches, centers = backbone.tokenizer.group(points)
    G, c = centers.shape[1], config
    if mask is None:
        mask, M = patch_mask(centers, c.mask_ratio, c.mask_type), int(c.mask_ratio * G)
    else:
        M = count_hidden(mask)
    visible, hidden = order_visible_first(mask).split([G - M, M], dim=1)
    return MaskedPatches(patches, centers, visible, hidden)


class Visible(NamedTuple):
    """The visible part of a masked batch and what there is to rebuild.

    Attributes:
        tokens: encoded visible patches, ``(B, V, C)``.
        centers: of the visible patches, ``(B, V, 3)``.
        hidden: centers of the hidden patches, ``(B, M, 3)``.
        target: points of the hidden patches relative to their centers, ``(B M, S, 3)``.
        geometry: of the whole cloud.
    """

    tokens: Tensor
    centers: Tensor
    hidden: Tensor
    target: Tensor
    geometry: Geometry


class PointMAEPretraining(Pretraining):
    """Masked autoencoding of point patches (Sec. 3).

    Args:
        backbone: the encoder to pre-train.
        config: masking, decoder and loss.
    """

    backbone: PointMAE

    def __init__(self, backbone: PointMAE, config: PointMAEPretrainingConfig | None = None) -> None:
        super().__init__()
        self.pretraining_config = c = config or PointMAEPretrainingConfig()
        check_fit(backbone, c)
        C = backbone.num_features
        self.backbone = backbone
        self.mask_token = nn.Parameter(torch.empty(1, 1, C))
        self.decoder_pos_embed = position_mlp(C)
        self.decoder = Decoder(C, c.decoder_depth, c.decoder_num_heads, backbone.config.drop_path)
        self.increase_dim = nn.Linear(C, 3 * backbone.config.group_size)
        init_token(self.mask_token)
        self.add_terms(C, c, self.decoder, self.increase_dim, self.decoder_pos_embed)

    def losses(
        self, points: Tensor, mask: Tensor | None = None, seen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The Chamfer distance of the rebuilt patches, and the terms on whole clouds.

        Args:
            points: ``(B, N, 3)``; with contrast, rows i and i + B / 2 are views of one cloud.
            mask: boolean ``(B, G)``, True = hidden, with equal counts per row; drawn when absent.
            seen: see :class:`ObjectiveTerms`.
        """
        visible, c, losses = self.encode_visible(points, mask), self.pretraining_config, {}
        if c.reconstruction:
            rebuilt = self.rebuild(visible)
            losses["reconstruction"] = rebuilding_error(rebuilt, visible.target, norm=c.loss)
        return losses | self.terms(points, visible.tokens, visible.centers, seen=seen)

    def encode_visible(self, points: Tensor, mask: Tensor | None = None) -> Visible:
        """Group ``points (B, N, 3)``, hide patches by ``mask (B, G)``, encode the rest.

        Raises:
            DataError: the mask hides more patches of one cloud than of another, none, or all.
        """
        masked = mask_patches(self.backbone, points, mask, self.pretraining_config)
        geometry = Geometry(points, masked.centers)
        tokens = self._embed(masked.neighborhoods, masked.visible)
        seen, hidden = (select(masked.centers, each) for each in (masked.visible, masked.hidden))
        tokens = self.backbone.encode(Stream(tokens, self.backbone.pos_embed(seen), geometry))
        return Visible(tokens, seen, hidden, masked.target(), geometry)

    def rebuild(self, visible: Visible) -> Tensor:
        """Points of the hidden patches relative to their centers, ``(B M, S, 3)``."""
        B, M = visible.hidden.shape[:2]
        x = torch.cat([visible.tokens, self.mask_token.expand(B, M, -1)], dim=1)
        positions = self.decoder_pos_embed(torch.cat([visible.centers, visible.hidden], dim=1))
        decoded = self.decoder(x, positions, M, visible.geometry)
        return self.increase_dim(decoded).view(B * M, -1, 3)

    def _embed(self, patches: Tensor, visible: Tensor) -> Tensor:
        """Tokens of the patches ``visible (B, V)`` of ``(B, G, S, 3)``, ``(B, V, C)``."""
        tokenizer = self.backbone.tokenizer
        if self.pretraining_config.embed_masked:
            return tokenizer.project(select(tokenizer.embed(patches), visible))
        seen = select(patches.flatten(2), visible).unflatten(2, patches.shape[2:])
        return tokenizer.project(tokenizer.embed(seen))
