"""Point-MAE: masked autoencoders for point cloud self-supervised learning.

Pang et al., ECCV 2022, arXiv 2203.06604. A cloud is cut into patches around farthest points, a
mini-PointNet turns every patch into a token, and a plain transformer encodes them. Classification
adds a class token and a head; pre-training is in ``point_mae_pretraining.py``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.layers import Block, drop_path_rates, position_mlp
from pointpeft.models.tokenizer import PatchTokenizer, check_widths
from pointpeft.models.trunk import PLAIN, Geometry, Method, Scale, Stream, Tokenized, Trunk

__all__ = [
    "Encoded",
    "PointMAE",
    "PointMAEClassifier",
    "PointMAEConfig",
    "init_decoder_weights",
    "init_token",
    "init_weights",
]


@dataclass(frozen=True)
class PointMAEConfig:
    """Sizes of the encoder; the defaults are the published ones for 1,024 points."""

    num_groups: int = 64  # patches per cloud
    group_size: int = 32  # points per patch
    dim: int = 384  # channels of a token
    depth: int = 12  # encoder blocks
    num_heads: int = 6  # heads of the attention
    drop_path: float = 0.1  # stochastic depth of the last block
    patch_widths: tuple[int, int, int] = (128, 256, 512)  # mini-PointNet
    embed_dim: int | None = None  # its output, where a projection follows; None: dim itself
    skip_near_origin: bool = False  # sampling rule of the papers' CUDA extension

    def __post_init__(self) -> None:
        check_sizes(self, ("num_groups", "group_size", "dim", "depth", "num_heads"))
        if self.dim % self.num_heads:
            raise ConfigError(f"dim={self.dim} must be a multiple of num_heads={self.num_heads}")
        if self.embed_dim is not None:
            check_sizes(self, ("embed_dim",))
        check_widths(self.patch_widths)
        check_numbers(self, ["drop_path"])
        check_choices(self, ["skip_near_origin"], (True, False))
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path must lie in [0, 1), got {self.drop_path!r}")


class Encoded(NamedTuple):
    """What a backbone returns: ``tokens (B, G, C)`` and their ``centers (B, G, 3)``."""

    tokens: Tensor
    centers: Tensor


class PointMAE(Trunk):
    """The Point-MAE encoder: a tokenizer, a list of blocks and a norm.

    Args:
        config: sizes, see :class:`PointMAEConfig`.

    Attributes:
        scales: the one scale that there is.
        position_embedding: makes, of a width C, what embeds centers, ``(..., 3) -> (..., C)``.
    """

    position_embedding: Callable[[int], nn.Module] = staticmethod(position_mlp)

    def __init__(self, config: PointMAEConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PointMAEConfig()
        self.num_features = c.dim
        self.scales = (Scale(range(c.depth), c.dim, c.num_groups, c.group_size),)
        self.tokenizer = PatchTokenizer(
            c.num_groups, c.group_size, c.dim, c.patch_widths, c.skip_near_origin, c.embed_dim
        )
        self.pos_embed = self.position_embedding(c.dim)
        rates = drop_path_rates(c.drop_path, c.depth)
        self.blocks = nn.ModuleList(Block(c.dim, c.num_heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(c.dim)
        self.apply(init_weights)

    def regroup(self, **settings: Any) -> None:
        """Cut clouds into other patches from now on: ``num_groups``, ``group_size``, ..."""
        self.config = c = dataclasses.replace(self.config, **settings)
        self.tokenizer.num_groups, self.tokenizer.group_size = c.num_groups, c.group_size
        self.tokenizer.skip_near_origin = c.skip_near_origin

    def forward(self, points: Tensor | Tokenized) -> Encoded:
        """Encode ``points (B, N, 3)``: every patch visible, no class token."""
        stream = self.embed(points)
        return Encoded(self.encode(stream), stream.geometry.centers)

    @property
    def final_norm(self) -> nn.Module:
        """The norm behind the last block."""
        return self.norm

    def tokenize(self, points: Tensor | Tokenized) -> Tokenized:
        """Patches of ``points (B, N, 3)`` and their tokens."""
        if isinstance(points, Tokenized):
            return points
        tokens, centers = self.tokenizer(points)
        return Tokenized(points, centers, tokens)

    def tokenize_patches(self, points: Tensor, neighborhoods: Tensor, centers: Tensor) -> Tokenized:
        """Clouds that come cut into patches, see :meth:`Trunk.tokenize_patches`."""
        tokens = self.tokenizer.project(self.tokenizer.embed(neighborhoods))
        return Tokenized(points, centers, tokens)

    def embed(
        self, points: Tensor | Tokenized, context: Mapping[str, Tensor] | None = None
    ) -> Stream:
        """Tokens of the patches of ``points (B, N, 3)``; ``context`` is handed to the blocks."""
        found = self.tokenize(points)
        geometry = Geometry(found.points, found.centers, context or {})
        return Stream(found.tokens, self.pos_embed(found.centers), geometry)

    def encode(self, stream: Stream, method: Method = PLAIN) -> Tensor:
        """Blocks and final norm, ``(B, T, C)``."""
        return self.norm(self.run(stream, method)[-1].tokens)

    def retrieval_features(self, points: Tensor | Tokenized, method: Method = PLAIN) -> Tensor:
        """One feature per cloud for retrieval and linear SVMs, ``(B, N, 3) -> (B, C)``.

        The maximum over patch tokens after the final norm; call it in eval mode.
        """
        return self.pool_retrieved(self.encode(self.embed(points), method))

    def pool_retrieved(self, tokens: Tensor) -> Tensor:
        """What retrieval compares of normalised tokens, ``(B, G, C) -> (B, C)``."""
        return tokens.amax(dim=1)


class PointMAEClassifier(Classifier):
    """Point-MAE with a class token and a classification head (Sec. 4.2).

    Args:
        backbone: the encoder.
        num_classes: number of logits.
    """

    backbone: PointMAE

    def __init__(self, backbone: PointMAE, num_classes: int) -> None:
        C = backbone.num_features
        super().__init__(backbone, 2 * C, num_classes)
        self.cls_token = nn.Parameter(torch.empty(1, 1, C))
        self.cls_pos = nn.Parameter(torch.empty(1, 1, C))
        init_token(self.cls_token)
        init_token(self.cls_pos)

    def run(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> Stream:
        """The stream behind the last block: the class token, then the patches."""
        stream = self.backbone.embed(points, context).insert(self.cls_token, self.cls_pos)
        return self.backbone.run(method.embed(self.backbone, stream), method)[-1]

    def pool(self, stream: Stream) -> Tensor:
        """Class token and maximum over patch tokens, ``(B, 2 C)``."""
        return torch.cat([stream.tokens[:, 0], stream.patches.amax(dim=1)], dim=-1)


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
