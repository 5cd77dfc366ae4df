"""Point-MAE: masked autoencoders for point cloud self-supervised learning.

Pang et al., ECCV 2022, arXiv 2203.06604. A cloud is cut into patches around farthest points, a
mini-PointNet turns every patch into a token, and a plain transformer encodes them. Pre-training
hides most patches and rebuilds their points; classification adds a class token and a head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.contrast import InstanceContrast
from pointpeft.models.geometry import Geometry, Scale
from pointpeft.models.heads import classification_head
from pointpeft.models.layers import Block, drop_path_rates, position_mlp
from pointpeft.models.masking import MaskType, patch_mask
from pointpeft.models.tokenizer import PatchTokenizer
from pointpeft.ops import chamfer_distance

__all__ = [
    "Encoded",
    "PointMAE",
    "PointMAEClassifier",
    "PointMAEConfig",
    "PointMAEPretraining",
    "PointMAEPretrainingConfig",
]


@dataclass(frozen=True)
class PointMAEConfig:
    """Sizes of the encoder; the defaults are the published ones for 1,024 points."""

    num_groups: int = 64  # patches per cloud
    group_size: int = 32  # points per patch
    dim: int = 384  # channels of a token
    depth: int = 12  # encoder blocks
    num_heads: int = 6
    drop_path: float = 0.1  # stochastic depth of the last block
    patch_widths: tuple[int, int, int] = (128, 256, 512)  # mini-PointNet
    embed_dim: int | None = None  # its output, where a projection follows; None: dim itself
    skip_near_origin: bool = False  # sampling rule of the published CUDA extension

    def __post_init__(self) -> None:
        check_sizes(self, ("num_groups", "group_size", "dim", "depth", "num_heads"))
        if self.dim % self.num_heads:
            raise ConfigError(f"dim={self.dim} must be a multiple of num_heads={self.num_heads}")
        widths = self.patch_widths
        if self.embed_dim is not None:
            check_sizes(self, ("embed_dim",))
        if len(widths) != 3 or not all(type(w) is int and w > 0 for w in widths):
            raise ConfigError(f"patch_widths must be three positive integers, got {widths!r}")
        check_numbers(self, ["drop_path"])
        check_choices(self, ["skip_near_origin"], (True, False))
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path must lie in [0, 1), got {self.drop_path!r}")


@dataclass(frozen=True)
class PointMAEPretrainingConfig:
    """Settings of masked pre-training; the defaults are the published ones."""

    mask_ratio: float = 0.6
    mask_type: MaskType = "random"
    decoder_depth: int = 4
    decoder_num_heads: int = 6
    loss: Literal["l1", "l2"] = "l2"  # Chamfer distance, "l2" or "l1"
    embed_masked: bool = True  # hidden patches also pass the mini-PointNet (BatchNorm sees them)
    contrast: float = 0.0  # weight of instance contrast between two views; published: none
    temperature: float = 0.1  # of the contrast

    def __post_init__(self) -> None:
        check_choices(self, ["mask_type"], get_args(MaskType))
        check_choices(self, ["loss"], ("l1", "l2"))
        check_choices(self, ["embed_masked"], (True, False))
        check_numbers(self, ["mask_ratio", "contrast", "temperature"])
        if self.contrast < 0 or self.temperature <= 0:
            raise ConfigError(
                f"contrast={self.contrast} must not be negative and "
                f"temperature={self.temperature} must be positive"
            )
        check_sizes(self, ("decoder_depth", "decoder_num_heads"))


class Encoded(NamedTuple):
    """What a backbone returns: ``tokens (B, G, C)`` and their ``centers (B, G, 3)``."""

    tokens: Tensor
    centers: Tensor


class PointMAE(nn.Module):
    """The Point-MAE encoder: a tokenizer, a list of blocks and a norm.

    Args:
        config: sizes, see :class:`PointMAEConfig`.

    Attributes:
        scales: the one scale that there is.
        spec: what identifies the architecture, when made by ``create_model``.
    """

    spec: Any = None

    def __init__(self, config: PointMAEConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PointMAEConfig()
        self.num_features = c.dim
        self.scales = (Scale(range(c.depth), c.dim, c.num_groups, c.group_size),)
        self.tokenizer = PatchTokenizer(
            c.num_groups, c.group_size, c.dim, c.patch_widths, c.skip_near_origin, c.embed_dim
        )
        self.pos_embed = position_mlp(c.dim)
        rates = drop_path_rates(c.drop_path, c.depth)
        self.blocks = nn.ModuleList(Block(c.dim, c.num_heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(c.dim)
        self.apply(init_weights)

    def forward(self, points: Tensor) -> Encoded:
        """Encode ``points (B, N, 3)``: every patch visible, no class token."""
        tokens, centers = self.tokenizer(points)
        tokens = self.encode(tokens, self.pos_embed(centers), Geometry(points, centers))
        return Encoded(tokens, centers)

    def encode(self, tokens: Tensor, positions: Tensor, geometry: Geometry) -> Tensor:
        """Blocks and final norm, ``(B, T, C) -> (B, T, C)``.

        Positions are added at the input of every block and stay in the residual stream.
        """
        return self.norm(self.run_blocks(tokens, positions, geometry)[-1])

    def run_blocks(self, tokens: Tensor, positions: Tensor, geometry: Geometry) -> list[Tensor]:
        """The output of every block, each ``(B, T, C)``, before the norm."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens + positions, geometry)
            outputs.append(tokens)
        return outputs

    def retrieval_features(self, points: Tensor, reference_compat: bool = False) -> Tensor:
        """One feature per cloud for retrieval and linear SVMs, ``(B, N, 3) -> (B, C)``.

        The maximum over patch tokens after the final norm, in the published computation as in
        ours; call it in eval mode.
        """
        return self.forward(points).tokens.amax(dim=1)


class PointMAEClassifier(nn.Module):
    """Point-MAE with a class token and a classification head (Sec. 4.2).

    Args:
        backbone: the encoder.
        num_classes: number of logits.
    """

    def __init__(self, backbone: PointMAE, num_classes: int) -> None:
        super().__init__()
        C = backbone.num_features
        self.backbone = backbone
        self.num_features = 2 * C
        self.cls_token = nn.Parameter(torch.empty(1, 1, C))
        self.cls_pos = nn.Parameter(torch.empty(1, 1, C))
        self.reset_classifier(num_classes)
        init_token(self.cls_token)
        init_token(self.cls_pos)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one with ``num_classes`` logits.

        Raises:
            ConfigError: there are no classes.
        """
        if num_classes < 1:
            raise ConfigError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.head = self.make_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        """``(B, 2 C) -> (B, classes)``."""
        return classification_head(self.num_features, num_classes)

    def forward(self, points: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits ``(B, classes)`` of ``points (B, N, 3)``; ``context`` is handed to the blocks."""
        return self.head(self.forward_features(points, context))

    def forward_features(
        self, points: Tensor, context: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Class token and maximum over patch tokens, ``(B, N, 3) -> (B, 2 C)``."""
        tokens, centers = self.backbone.tokenizer(points)
        geometry = Geometry(points, centers, num_prefix_tokens=1, context=context or {})
        B = len(points)
        x = torch.cat([self.cls_token.expand(B, -1, -1), tokens], dim=1)
        positions = self.backbone.pos_embed(centers)
        positions = torch.cat([self.cls_pos.expand(B, -1, -1), positions], dim=1)
        x = self.backbone.encode(x, positions, geometry)
        return torch.cat([x[:, 0], x[:, 1:].amax(dim=1)], dim=-1)


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


class PointMAEPretraining(nn.Module):
    """Masked autoencoding of point patches (Sec. 3).

    Args:
        backbone: the encoder to pre-train.
        config: masking, decoder and loss.

    Attributes:
        num_views: differently augmented copies of a batch that the loss wants, one after the
            other: two with contrast, else one.
    """

    def __init__(self, backbone: PointMAE, config: PointMAEPretrainingConfig | None = None) -> None:
        super().__init__()
        self.pretraining_config = c = config or PointMAEPretrainingConfig()
        C, G = backbone.num_features, backbone.config.num_groups
        if not 0 < int(c.mask_ratio * G) < G:
            raise ConfigError(
                f"mask_ratio={c.mask_ratio} hides {int(c.mask_ratio * G)} of num_groups={G} "
                "patches; some must be hidden and some visible"
            )
        self.backbone = backbone
        self.mask_token = nn.Parameter(torch.empty(1, 1, C))
        self.decoder_pos_embed = position_mlp(C)
        self.decoder = Decoder(C, c.decoder_depth, c.decoder_num_heads, backbone.config.drop_path)
        self.increase_dim = nn.Linear(C, 3 * backbone.config.group_size)
        init_token(self.mask_token)
        self.contrast = InstanceContrast(C, c.temperature) if c.contrast else None
        self.num_views = 2 if c.contrast else 1

    def forward(self, points: Tensor, mask: Tensor | None = None) -> Tensor:
        """Chamfer loss of the rebuilt patches, plus the weighted contrast if there is one.

        Args:
            points: ``(B, N, 3)``; with contrast, rows i and i + B / 2 are views of one cloud.
            mask: boolean ``(B, G)``, True = hidden, with equal counts per row; drawn when absent.
        """
        losses = self.losses(points, mask)
        weights = {"contrast": self.pretraining_config.contrast}
        return sum(weights.get(name, 1.0) * loss for name, loss in losses.items())  # type: ignore[return-value]

    def losses(self, points: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars, before weighting; arguments as for the loss."""
        visible = self.encode_visible(points, mask)
        rebuilt = self.rebuild(visible)
        norm = self.pretraining_config.loss
        losses = {"reconstruction": chamfer_distance(rebuilt, visible.target, norm=norm)}
        if self.contrast is not None:
            losses["contrast"] = self.contrast(visible.tokens.amax(dim=1))
        return losses

    def encode_visible(self, points: Tensor, mask: Tensor | None = None) -> Visible:
        """Group ``points (B, N, 3)``, hide patches by ``mask (B, G)``, encode the rest.

        Raises:
            ValueError: the mask hides more patches of one cloud than of another.
        """
        c = self.pretraining_config
        patches, centers = self.backbone.tokenizer.group(points)
        if mask is None:
            mask = patch_mask(centers, c.mask_ratio, c.mask_type)
        if (hidden_counts := mask.sum(dim=1)).unique().numel() > 1:
            raise ValueError(
                f"mask must hide as many patches in each cloud, got {hidden_counts.tolist()}"
            )
        B = len(points)
        geometry = Geometry(points, centers)
        visible, hidden = centers[~mask].view(B, -1, 3), centers[mask].view(B, -1, 3)
        tokens = self._embed(patches, mask)
        tokens = self.backbone.encode(tokens, self.backbone.pos_embed(visible), geometry)
        return Visible(tokens, visible, hidden, patches[mask], geometry)

    def rebuild(self, visible: Visible) -> Tensor:
        """Points of the hidden patches relative to their centers, ``(B M, S, 3)``."""
        B, M = visible.hidden.shape[:2]
        x = torch.cat([visible.tokens, self.mask_token.expand(B, M, -1)], dim=1)
        positions = self.decoder_pos_embed(torch.cat([visible.centers, visible.hidden], dim=1))
        decoded = self.decoder(x, positions, M, visible.geometry)
        return self.increase_dim(decoded).view(B * M, -1, 3)

    def _embed(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Tokens of the visible patches, ``(B, G, S, 3) -> (B, V, C)``, in center order."""
        tokenizer = self.backbone.tokenizer
        if self.pretraining_config.embed_masked:
            tokens = tokenizer.embed(patches)[~mask]
        else:
            tokens = tokenizer.embed(patches[~mask])
        return tokenizer.project(tokens).view(len(patches), -1, self.backbone.num_features)


def init_token(token: Tensor) -> None:
    """Fill a learned token, of any shape, from a truncated normal of deviation 0.02."""
    nn.init.trunc_normal_(token, std=0.02)


def init_weights(module: nn.Module) -> None:
    """Published encoder initialisation: linear weights truncated normal 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_decoder_weights(module: nn.Module) -> None:
    """Published decoder initialisation: linear weights Xavier uniform, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
