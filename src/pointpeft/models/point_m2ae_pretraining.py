"""Point-M2AE's pre-training: groups of all scales are hidden, and rebuilt from coarse to fine.

Hidden are groups of the coarsest scale and whatever only they contain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, DataError, check_choices, check_numbers, check_sizes
from pointpeft.models.hierarchy import Level, hide_scales, padding_bias
from pointpeft.models.layers import Block, drop_path_rates, position_mlp
from pointpeft.models.masking import patch_mask
from pointpeft.models.objective import ObjectiveConfig, Pretraining
from pointpeft.models.point_m2ae import PointM2AE, check_counts
from pointpeft.models.point_mae import init_decoder_weights, init_token
from pointpeft.models.trunk import Geometry
from pointpeft.ops.chamfer import rebuilding_error
from pointpeft.ops.interpolation import interpolate
from pointpeft.vision import Teacher

__all__ = [
    "HierarchicalDecoder",
    "MaskedClouds",
    "MaskedScale",
    "PointM2AEPretraining",
    "PointM2AEPretrainingConfig",
    "ResidualMlp",
    "TokenPropagation",
]


class MaskedScale(NamedTuple):
    """What a decoder knows of one scale.

    Attributes:
        tokens: ``(B, G, C)``, encoded and normalised where visible; hidden ones are not looked at.
        centers: ``(B, G, 3)``.
        hidden: boolean ``(B, G)``.
    """

    tokens: Tensor
    centers: Tensor
    hidden: Tensor


class ResidualMlp(nn.Module):
    """Two linear layers with BatchNorm around a skip connection, each followed by a GELU.

    Args:
        dim: channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net1 = nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.GELU())
        self.net2 = nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, C) -> (rows, C)``."""
        return F.gelu(self.net2(self.net1(x)) + x)


class TokenPropagation(nn.Module):
    """Carries tokens of the coarser scale to a finer one and joins them with its own.

    Three nearest centers by inverse squared distance, behind the scale's own tokens, through a
    shared MLP (PointNet++, Sec. 3.4; residual layers of PointMLP, Ma et al. 2022).

    Args:
        dim: channels C of the finer scale.
        coarser_dim: channels c of the coarser scale.
        num_residuals: residual layers behind the one that joins.
    """

    def __init__(self, dim: int, coarser_dim: int, num_residuals: int) -> None:
        super().__init__()
        self.fuse = nn.Sequential(nn.Linear(dim + coarser_dim, dim), nn.BatchNorm1d(dim), nn.GELU())
        self.residuals = nn.Sequential(*(ResidualMlp(dim) for _ in range(num_residuals)))

    def forward(self, own: Tensor, centers: Tensor, coarser: Tensor, sources: Tensor) -> Tensor:
        """Tokens of the finer scale, ``(B, G, C)``.

        Args:
            own: its tokens so far, ``(B, G, C)``.
            centers: ``(B, G, 3)``.
            coarser: tokens of the coarser scale, ``(B, g, c)``.
            sources: their centers, ``(B, g, 3)``.
        """
        carried = interpolate(centers, sources, coarser)
        rows = torch.cat([own, carried], dim=-1).flatten(0, 1)
        return self.residuals(self.fuse(rows)).view(own.shape)


class HierarchicalDecoder(nn.Module):
    """Rebuilds hidden tokens scale by scale, the coarsest first (Point-M2AE, "decoder").

    At the coarsest scale a learned token stands for every hidden one; at a finer one zeros do,
    and what the step before made of the coarser scale is carried there.

    Args:
        dims: channels of the decoded scales, coarsest first.
        depths: blocks of each.
        num_residuals: residual layers of each token propagation, one fewer than scales.
        num_heads: of every block.
        drop_path: stochastic depth of the last block.
    """

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        num_residuals: Sequence[int],
        num_heads: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        self.mask_token = nn.Parameter(torch.empty(1, dims[0]))
        self.pos_embeds = nn.ModuleList(position_mlp(C, C) for C in dims)
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(C, num_heads, next(rates)) for _ in range(depth))
            for C, depth in zip(dims, depths, strict=True)
        )
        self.propagations = nn.ModuleList(map(TokenPropagation, dims[1:], dims, num_residuals))
        self.norm = nn.LayerNorm(dims[-1])
        self.stages.apply(init_decoder_weights)
        init_token(self.mask_token)

    def forward(self, points: Tensor, scales: Sequence[MaskedScale]) -> Tensor:
        """Normalised tokens of the finest decoded scale, ``(B, G, C)``, in its center order.

        Args:
            points: the clouds ``(B, N, 3)``, for the geometry of the blocks.
            scales: one per step, coarsest first.
        """
        first = scales[0]
        x = torch.where(first.hidden.unsqueeze(-1), self.mask_token, first.tokens)
        x = self._run(0, x, points, first.centers)
        for step, (coarser, scale) in enumerate(pairwise(scales)):
            own = scale.tokens.masked_fill(scale.hidden.unsqueeze(-1), 0.0)
            x = self.propagations[step](own, scale.centers, x, coarser.centers)
            x = self._run(step + 1, x, points, scale.centers)
        return self.norm(x)

    def _run(self, step: int, x: Tensor, points: Tensor, centers: Tensor) -> Tensor:
        positions, geometry = self.pos_embeds[step](centers), Geometry(points, centers)
        for block in self.stages[step]:  # type: ignore[attr-defined]
            x = block(x + positions, geometry)
        return x


@dataclass(frozen=True)
class PointM2AEPretrainingConfig(ObjectiveConfig):
    """Settings of masked pre-training; tuples from the coarsest scale to the finest.

    ``reference_compat`` is another model, see ``compat/pretraining.py``.
    """

    mask_ratio: float = 0.8  # of the coarsest groups
    decoder_depths: tuple[int, ...] = (1, 1)  # blocks of each decoded scale
    decoder_residuals: tuple[int, ...] = (1,)  # residual layers on the way to each further scale
    decoder_num_heads: int = 6  # heads of its attention
    points_per_group: int | None = None  # rebuilt; None: group_sizes[0] of the encoder
    reference_compat: bool = False  # as the papers' code computes, faults included

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("decoder_depths", self.decoder_depths)
        check_counts("decoder_residuals", self.decoder_residuals, least=0)
        if len(self.decoder_residuals) != len(self.decoder_depths) - 1:
            raise ConfigError(
                f"decoder_residuals={self.decoder_residuals} must have one value fewer than "
                f"decoder_depths={self.decoder_depths}: none for the coarsest scale"
            )
        check_sizes(self, ("decoder_num_heads",))
        if self.points_per_group is not None:
            check_sizes(self, ("points_per_group",))
        check_numbers(self, ["mask_ratio"])
        check_choices(self, ["reference_compat"], (True, False))


class MaskedClouds(NamedTuple):
    """A masked batch after the encoder; sequences go from the finest scale to the coarsest.

    Attributes:
        points: the clouds ``(B, N, 3)``.
        levels: groups of every scale.
        scales: normalised tokens, centers and masks of every scale.
    """

    points: Tensor
    levels: Sequence[Level]
    scales: Sequence[MaskedScale]


class PointM2AEPretraining(Pretraining):
    """Multi-scale masked autoencoding.

    The decoder takes one step per entry of ``decoder_depths``, from the coarsest scale on; the
    hidden groups of the scale that it ends with are rebuilt. Published: two steps on three scales.

    Args:
        backbone: the encoder to pre-train.
        config: masking and decoder.
        teacher: image encoder of the terms on whole clouds; None: loaded as ``config`` says.
    """

    backbone: PointM2AE
    hide = staticmethod(hide_scales)
    padding_bias = staticmethod(padding_bias)

    def __init__(
        self,
        backbone: PointM2AE,
        config: PointM2AEPretrainingConfig | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.pretraining_config = c = config or PointM2AEPretrainingConfig()
        sizes = backbone.config
        G, steps = sizes.num_groups[-1], len(c.decoder_depths)
        if not 0 < int(c.mask_ratio * G) < G:
            raise ConfigError(
                f"mask_ratio={c.mask_ratio} hides {int(c.mask_ratio * G)} of the {G} groups of the "
                "coarsest scale; some must be hidden and some visible"
            )
        if steps > len(sizes.dims):
            raise ConfigError(
                f"decoder_depths={c.decoder_depths} has {steps} steps, but the encoder has "
                f"{len(sizes.dims)} scales"
            )
        dims = sizes.dims[::-1][:steps]
        if wrong := [C for C in dims if C % c.decoder_num_heads]:
            raise ConfigError(
                f"dims={wrong[0]} must be a multiple of decoder_num_heads={c.decoder_num_heads}"
            )
        backbone.normalize_finer_scales()
        # Scales that are not rebuilt do without their norm, and DDP without idle parameters.
        backbone.norms[: len(sizes.dims) - steps].requires_grad_(False)
        self.backbone = backbone
        self.decoder = HierarchicalDecoder(
            dims, c.decoder_depths, c.decoder_residuals, c.decoder_num_heads, sizes.drop_path
        )
        # The paper's head has the finest group size, although it rebuilds coarser groups.
        self.rec_head = nn.Linear(dims[-1], 3 * (c.points_per_group or sizes.group_sizes[0]))
        self.add_terms(backbone.num_features, c, self.decoder, self.rec_head, encoder=teacher)

    def losses(
        self, points: Tensor, mask: Tensor | None = None, seen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The Chamfer distance of the rebuilt groups, and the terms on whole clouds.

        Args:
            points: ``(B, N, 3)``; with contrast, rows i and i + B / 2 are views of one cloud.
            mask: boolean ``(B, G)`` of the coarsest scale, True = hidden; drawn when absent.
            seen: see :class:`ObjectiveTerms`.
        """
        masked, losses = self.encode_visible(points, mask), {}
        if self.pretraining_config.reconstruction:
            losses["reconstruction"] = rebuilding_error(*self.rebuild(masked), norm="l2")
        coarsest = masked.scales[-1]
        return losses | self.terms(points, *coarsest, seen)

    def encode_visible(self, points: Tensor, mask: Tensor | None = None) -> MaskedClouds:
        """Group ``points (B, N, 3)``, hide groups at all scales, encode the rest."""
        levels = self.backbone.group(points)
        if mask is None:
            mask = patch_mask(levels[-1].centers, self.pretraining_config.mask_ratio, "random")
        return self.encode_groups(points, levels, mask)

    def encode_groups(self, points: Tensor, levels: Sequence[Level], mask: Tensor) -> MaskedClouds:
        """Encode what ``mask (B, G)`` of the coarsest scale leaves visible of groups.

        Raises:
            DataError: the mask hides all of a cloud (not when compiled).
        """
        backbone = self.backbone
        if not torch.compiler.is_compiling() and mask.all(dim=1).any():
            raise DataError("mask must leave a group of every cloud visible")
        hidden = self.hide(levels, mask)
        outputs = backbone.run_visible(points, levels, hidden, self.padding_bias)
        tokens = [norm(output) for norm, output in zip(backbone.norms, outputs, strict=True)]
        centers = [level.centers for level in levels]
        return MaskedClouds(points, levels, list(map(MaskedScale, tokens, centers, hidden)))

    def decode(self, masked: MaskedClouds) -> Tensor:
        """Tokens of all groups of the last decoded scale, ``(B, G, C)``."""
        steps = len(self.pretraining_config.decoder_depths)
        return self.decoder(masked.points, masked.scales[::-1][:steps])

    def rebuild(self, masked: MaskedClouds, decoded: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rebuilt points ``(M, S, 3)`` of all hidden groups of the last step, and the true ones.

        Both are relative to the centers of the groups; the true ones are ``(M, K, 3)``.

        Args:
            masked: the encoded batch.
            decoded: what :meth:`decode` made of it, where that is at hand.

        Raises:
            ConfigError: no group of that scale is hidden (not when compiled).
        """
        steps = len(self.pretraining_config.decoder_depths)
        hidden = masked.scales[-steps].hidden
        if not torch.compiler.is_compiling() and not hidden.any():
            raise ConfigError(
                "no group of the decoded scale is hidden, as visible groups of the coarsest scale "
                "contain all of them; choose a larger mask_ratio or smaller group_sizes"
            )
        if decoded is None:
            decoded = self.decode(masked)
        rebuilt = self.rec_head(decoded[hidden])
        return rebuilt.view(len(rebuilt), -1, 3), masked.levels[-steps].neighborhoods[hidden]
