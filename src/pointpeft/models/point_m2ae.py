"""Point-M2AE: multi-scale masked autoencoders for hierarchical point cloud pre-training.

Zhang et al., NeurIPS 2022, arXiv 2205.14401. Groups of points become the tokens of the finest
scale, groups of these the tokens of the next, and each scale has its own transformer blocks.
Fine-tuning lets tokens attend within a radius of their scale; pre-training is in
``point_m2ae_pretraining.py``.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.hierarchy import (
    Level,
    ScaleTokenizer,
    group_scales,
    local_bias,
    pack_visible,
    padding_bias,
    with_coarser,
)
from pointpeft.models.layers import Block, drop_path_rates, position_mlp
from pointpeft.models.point_mae import Encoded, init_weights
from pointpeft.models.trunk import PLAIN, Geometry, Method, Scale, Stream, Tokenized, Trunk

__all__ = ["PointM2AE", "PointM2AEClassifier", "PointM2AEConfig", "check_counts"]

Pooling = Literal["mean+max", "concat", "concat_all"]
"""How the classifier makes one vector of all tokens, see :class:`PointM2AEConfig`."""


@dataclass(frozen=True)
class PointM2AEConfig:
    """Sizes of the encoder, tuples from the finest scale to the coarsest; those of the paper.

    The classifier's pooling is the sum of mean and maximum, or "concat", the published one on
    ScanObjectNN: the mean beside the maximum over all tokens but the first; "concat_all" takes the
    maximum over all of them.
    """

    num_groups: tuple[int, ...] = (512, 256, 64)  # patches of each scale, finest first
    group_sizes: tuple[int, ...] = (16, 8, 8)  # members of a group
    dims: tuple[int, ...] = (96, 192, 384)  # channels of a token
    depths: tuple[int, ...] = (5, 5, 5)  # encoder blocks
    num_heads: int = 6  # heads of the attention
    local_radius: tuple[float, ...] = (0.32, 0.64, 1.28)  # of attention; 0: no limit
    drop_path: float = 0.1  # stochastic depth of the last block of all
    patch_widths: tuple[int, int, int] = (128, 256, 512)  # mini-PointNet of the finest scale
    pooling: Pooling = "mean+max"  # of tokens for the head; "concat", "concat_all"
    skip_near_origin: bool = False  # sampling rule of the papers' CUDA extension

    def __post_init__(self) -> None:
        for name in ("num_groups", "group_sizes", "dims", "depths", "patch_widths"):
            check_counts(name, getattr(self, name))
        self._check_scales()
        check_sizes(self, ("num_heads",))
        if wrong := [C for C in self.dims if C % self.num_heads]:
            raise ConfigError(f"dims={wrong[0]} must be a multiple of num_heads={self.num_heads}")
        if len(self.patch_widths) != 3:
            raise ConfigError(f"patch_widths must be three integers, got {self.patch_widths!r}")
        check_numbers(self, ["drop_path"])
        check_choices(self, ["skip_near_origin"], (True, False))
        check_choices(self, ["pooling"], get_args(Pooling))
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path must lie in [0, 1), got {self.drop_path!r}")
        if self.pooling == "concat" and self.num_groups[-1] < 2:
            raise ConfigError("pooling 'concat' skips a token: the coarsest scale needs 2 or more")

    def _check_scales(self) -> None:
        """Tuples of one length, and groups that the scale below can fill."""
        radii = self.local_radius
        if not isinstance(radii, tuple) or not all(_is_number(r) for r in radii):
            raise ConfigError(f"local_radius must be numbers, one per scale, got {radii!r}")
        names = ("num_groups", "group_sizes", "dims", "depths", "local_radius")
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) > 1 or len(radii) < 2:
            listed = ", ".join(f"{name} has {count}" for name, count in lengths.items())
            raise ConfigError(f"there must be two or more scales with one value each: {listed}")
        for (finer, G), K in zip(pairwise(self.num_groups), self.group_sizes[1:], strict=True):
            if max(G, K) > finer:
                raise ConfigError(
                    f"num_groups={self.num_groups} and group_sizes={self.group_sizes}: {G} groups "
                    f"of {K} cannot be formed of the {finer} centers of the finer scale"
                )


@dataclass(frozen=True)
class TokenizedScales(Tokenized):
    """Clouds cut into groups of every scale, with the tokens of the finest one.

    Attributes:
        levels: the groups, finest first.
    """

    levels: Sequence[Level]

    def rows(self, rows: Tensor) -> "TokenizedScales":
        """Some of the clouds, by their places ``(b,)``."""
        levels = [Level(*(part[rows] for part in level)) for level in self.levels]
        return TokenizedScales(**vars(super().rows(rows)), levels=levels)

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> "TokenizedScales":
        """The clouds of all batches, of which the same is known."""
        each = zip(*(batch.levels for batch in batches), strict=True)
        levels = [Level(*map(torch.cat, zip(*same, strict=True))) for same in each]
        return TokenizedScales(**vars(super().joined(batches)), levels=levels)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return super().nbytes + sum(part.nbytes for level in self.levels for part in level)


class PointM2AE(Trunk):
    """The Point-M2AE encoder: per scale a tokenizer, a position embedding, blocks and a norm.

    Args:
        config: sizes, see :class:`PointM2AEConfig`.

    Attributes:
        blocks: of all scales in one list, finest first.
        scales: finest first; each names the places of its blocks in the list.
        norms: one per scale. Those of finer scales are the identity until
            :meth:`normalize_finer_scales`: few models look at these scales.
    """

    def __init__(self, config: PointM2AEConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PointM2AEConfig()
        self.num_features = c.dims[-1]
        self.tokenizers = nn.ModuleList(_tokenizers(c))
        self.pos_embeds = nn.ModuleList(position_mlp(C, C) for C in c.dims)
        spans = [range(start, end) for start, end in pairwise(accumulate(c.depths, initial=0))]
        self.scales = tuple(map(Scale, spans, c.dims, c.num_groups, c.group_sizes))
        widths = [C for C, depth in zip(c.dims, c.depths, strict=True) for _ in range(depth)]
        rates = drop_path_rates(c.drop_path, sum(c.depths))
        self.blocks = nn.ModuleList(
            Block(C, c.num_heads, rate) for C, rate in zip(widths, rates, strict=True)
        )
        finer = [nn.Identity() for _ in c.dims[:-1]]
        self.norms = nn.ModuleList([*finer, nn.LayerNorm(c.dims[-1])])
        self.optional_state = tuple(f"norms.{scale}." for scale in range(len(finer)))
        self.apply(init_weights)

    def normalize_finer_scales(self) -> None:
        """Give finer scales a LayerNorm too, for models that use their tokens."""
        like = self.norms[-1].weight
        for scale, C in enumerate(self.config.dims[:-1]):
            if isinstance(self.norms[scale], nn.Identity):
                self.norms[scale] = nn.LayerNorm(C, device=like.device, dtype=like.dtype)

    def regroup(self, **settings: Any) -> None:
        """Cut clouds into other groups from now on: ``num_groups``, ``group_sizes``, ..."""
        self.config = dataclasses.replace(self.config, **settings)

    def forward(self, points: Tensor | Tokenized) -> Encoded:
        """Tokens of the coarsest scale of ``points (B, N, 3)``, normalised, nothing hidden."""
        coarsest = self.run_scales(points)[-1]
        return Encoded(self.final_norm(coarsest.tokens), coarsest.geometry.centers)

    @property
    def final_norm(self) -> nn.Module:
        """The norm behind the last block."""
        return self.norms[-1]

    def group(self, points: Tensor) -> list[Level]:
        """Groups of every scale of ``points (B, N, 3)``, finest first."""
        c = self.config
        return group_scales(points, c.num_groups, c.group_sizes, c.skip_near_origin)

    def tokenize(self, points: Tensor | Tokenized) -> "TokenizedScales":
        """Groups of every scale of ``points (B, N, 3)``, and the tokens of the finest."""
        if isinstance(points, TokenizedScales):
            return points
        assert isinstance(points, Tensor), "tokenized by another encoder"
        return self._tokenized(points, self.group(points))

    def tokenize_patches(
        self, points: Tensor, neighborhoods: Tensor, centers: Tensor
    ) -> "TokenizedScales":
        """Clouds that come cut into patches, see :meth:`Trunk.tokenize_patches`."""
        # Members of the finest patches are known by their coordinates: nothing looks them up.
        unknown = torch.full(neighborhoods.shape[:3], -1, device=centers.device)
        finest, c = Level(neighborhoods, centers, unknown), self.config
        return self._tokenized(points, with_coarser(finest, c.num_groups[1:], c.group_sizes[1:]))

    def _tokenized(self, points: Tensor, levels: Sequence[Level]) -> "TokenizedScales":
        return TokenizedScales(points, levels[0].centers, self.tokenizers[0](levels[0]), levels)

    def run_scales(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
        local: bool = True,
    ) -> list[Stream]:
        """The stream behind the last block of every scale, finest first, before the norms.

        Args:
            points: ``(B, N, 3)``, or tokenized.
            method: acts on every scale; its state goes from one to the next.
            context: handed to the blocks.
            local: limit attention to the radius of each scale.
        """
        found = self.tokenize(points)
        outputs: list[Stream] = []
        for scale, level in enumerate(found.levels):
            radius = self.config.local_radius[scale] if local else 0.0
            bias = local_bias(level.centers, radius)
            finer = outputs[-1] if outputs else None
            tokens = self.tokenizers[scale](level, finer.patches) if finer else found.tokens
            positions = self.pos_embeds[scale](level.centers)
            geometry = Geometry(found.points, level.centers, context or {}, bias)
            stream = Stream(tokens, positions, geometry, state=finer.state if finer else None)
            blocks = self.scales[scale].blocks
            outputs.append(self.run(method.embed(self, stream), method, blocks)[-1])
        return outputs

    def run_visible(
        self,
        points: Tensor,
        levels: Sequence[Level],
        hidden: Sequence[Tensor],
        bias: Callable[[Tensor, Tensor, float], Tensor] = padding_bias,
    ) -> list[Tensor]:
        """Tokens of every scale, ``(B, G, C)``, with those left visible encoded among themselves.

        Hidden tokens keep their embedding; no visible group contains one. Attention is not local.

        Args:
            points: ``(B, N, 3)``.
            levels: their groups.
            hidden: boolean ``(B, G)`` of every scale, see
                :func:`pointpeft.models.hierarchy.hide_scales`.
            bias: of attention, from what is no padding, centers, and the radius of the scale.
        """
        outputs: list[Tensor] = []
        for scale, (level, mask) in enumerate(zip(levels, hidden, strict=True)):
            tokens = self.tokenizers[scale](level, outputs[-1] if outputs else None)
            packing = pack_visible(mask)
            centers = packing.pack(level.centers)
            radius = self.config.local_radius[scale]
            seen = bias(packing.valid, centers, radius)
            geometry = Geometry(points, centers, attention_bias=seen)
            stream = Stream(packing.pack(tokens), self.pos_embeds[scale](centers), geometry)
            encoded = self.run(stream, blocks=self.scales[scale].blocks)[-1]
            outputs.append(packing.unpack(encoded.tokens, tokens))
        return outputs

    def retrieval_features(self, points: Tensor | Tokenized, method: Method = PLAIN) -> Tensor:
        """One feature per cloud for retrieval and linear SVMs, ``(B, N, 3) -> (B, C)``.

        Mean plus maximum over the normalised tokens of the coarsest scale, which are computed as in
        pre-training: without the local radius, which belongs to fine-tuning. Call it in eval mode.
        """
        tokens = self.run_scales(points, method, local=False)[-1].tokens
        return self.pool_retrieved(self.final_norm(tokens))

    def pool_retrieved(self, tokens: Tensor) -> Tensor:
        """What retrieval compares of normalised tokens, ``(B, G, C) -> (B, C)``."""
        return tokens.mean(dim=1) + tokens.amax(dim=1)


class PointM2AEClassifier(Classifier):
    """Point-M2AE with pooled tokens of the coarsest scale and a classification head.

    Args:
        backbone: the encoder.
        num_classes: number of logits.
    """

    backbone: PointM2AE

    def __init__(self, backbone: PointM2AE, num_classes: int) -> None:
        parts = 1 if backbone.config.pooling == "mean+max" else 2
        super().__init__(backbone, parts * backbone.num_features, num_classes)

    def run(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> Stream:
        """The stream behind the last block of the coarsest scale."""
        return self.backbone.run_scales(points, method, context)[-1]

    def pool(self, stream: Stream) -> Tensor:
        """Pooled tokens, ``(B, C)``, or ``(B, 2 C)`` where they are concatenated."""
        tokens = stream.patches
        mean = tokens.mean(dim=1)
        if self.backbone.config.pooling == "mean+max":
            return mean + tokens.amax(dim=1)
        # The papers' maximum begins behind a class token, of which there is none.
        first = 1 if self.backbone.config.pooling == "concat" else 0
        return torch.cat([mean, tokens[:, first:].amax(dim=1)], dim=-1)


def _tokenizers(c: PointM2AEConfig) -> Iterable[ScaleTokenizer]:
    """Tokenizers of all scales; the mini-PointNets of coarser ones are as wide as their tokens."""
    finer = 3
    for scale, C in enumerate(c.dims):
        widths = (finer, finer, C) if scale else c.patch_widths
        yield ScaleTokenizer(c.num_groups[scale], c.group_sizes[scale], finer, C, widths)
        finer = C


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_counts(name: str, values: object, least: int = 1) -> None:
    """Refuse the setting ``name`` where it is no tuple of integers of at least ``least``.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(values, tuple) or not all(type(v) is int and v >= least for v in values):
        raise ConfigError(f"{name} must be integers of at least {least}, got {values!r}")
