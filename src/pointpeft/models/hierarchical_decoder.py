"""The decoder of hierarchical masked autoencoders: from coarse to fine, with skip connections."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models.geometry import Geometry
from pointpeft.models.layers import Block, drop_path_rates, position_mlp
from pointpeft.models.point_mae import init_decoder_weights, init_token
from pointpeft.ops.interpolation import interpolate

__all__ = ["HierarchicalDecoder", "MaskedScale", "ResidualMlp", "TokenPropagation"]


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
