"""The layers of Point-PEFT: what stands beside a block, and what the blocks of a scale share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models import Geometry
from pointpeft.models.layers import Block, attention
from pointpeft.ops import (
    farthest_point_sample,
    gather_points,
    inverse_distance_weights,
    knn,
    max_pool,
)
from pointpeft.ops.gathering import select_rows

__all__ = [
    "Bottleneck",
    "LocalAttention",
    "LocalGroups",
    "PointPeftBlock",
    "ScaleLayers",
    "local_groups",
    "quick_gelu",
]


def quick_gelu(x: Tensor) -> Tensor:
    """Sigmoid approximation of GELU, ``x * sigmoid(1.702 x)``."""
    return x * torch.sigmoid(1.702 * x)


class Bottleneck(nn.Module):
    """Down-projection, QuickGELU, up-projection.

    Args:
        dim: channels C in and out.
        width: channels between.
        residual: add the input to the output.
        dropout: rate between the projections.
        init_scale: of the up-projection's initial weights; a small one lets a model with the
            layer begin close to the function that it was without.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        residual: bool,
        dropout: float = 0.1,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.ln1 = nn.Linear(dim, width)
        self.ln2 = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.ln1, self.ln2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)
        with torch.no_grad():
            self.ln2.weight.mul_(init_scale)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        out = self.ln2(self.dropout(quick_gelu(self.ln1(x))))
        return x + out if self.residual else out


class LocalAttention(nn.Module):
    """Narrow attention inside local groups of rows (Point-PEFT, Sec. 3.3).

    Args:
        dim: channels C of a row.
        width: channels of all heads together.
        num_heads: attention heads.
    """

    def __init__(self, dim: int, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got {width} and {num_heads}")
        self.num_heads = num_heads
        self.scale = width**-0.5  # of the whole width, not of a head, as in the papers
        self.qkv = nn.Linear(dim, 3 * width, bias=False)
        self.proj = nn.Linear(width, dim)

    def forward(self, rows: Tensor, groups: Tensor) -> Tensor:
        """Attend within each group: ``rows (R, C)``, ``groups (L, s)`` row numbers -> (L, s, C).

        The projections act on rows alone, so they run before the gather, on R instead of L * s.
        """
        L, s = groups.shape
        qkv = select_rows(self.qkv(rows), groups).view(L, s, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (L, heads, s, width / heads)
        x = attention(q, k, v, scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(L, s, -1))


class LocalGroups(NamedTuple):
    """Second-level groups of a batch; rows of all clouds are numbered as if stacked.

    Attributes:
        neighbors: ``(B g, s)`` row numbers of the members of each group.
        centers: ``(B g,)`` row number of each group's center.
        weights: ``(B, G, g)`` share of each group in each token, rows summing to one.
    """

    neighbors: Tensor
    centers: Tensor
    weights: Tensor


def local_groups(
    tokens: Tensor, rows: Tensor, num_groups: int, group_size: int, skip_near_origin: bool = False
) -> LocalGroups:
    """Groups of neighbouring rows, and inverse-distance weights back to the tokens.

    Args:
        tokens: coordinates of the patch tokens ``(B, G, 3)``, which receive.
        rows: coordinates of the feature rows ``(B, R, 3)``, which are grouped.
        num_groups: groups g, around farthest rows beginning with row 0.
        group_size: rows s per group, the nearest to its center.
        skip_near_origin: sampling rule of the papers' CUDA sampler.
    """
    neighbors, centers, group_coordinates = _group(rows, num_groups, group_size, skip_near_origin)
    offset = _offsets(rows, stride=rows.shape[1])
    return LocalGroups(
        (neighbors + offset.unsqueeze(-1)).flatten(0, 1),
        (centers + offset).flatten(),
        inverse_distance_weights(tokens, group_coordinates),
    )


def _group(
    rows: Tensor, num_groups: int, group_size: int, skip_near_origin: bool
) -> tuple[Tensor, Tensor, Tensor]:
    centers = farthest_point_sample(rows.detach(), num_groups, skip_near_origin)  # (B, g)
    coordinates = gather_points(rows, centers)
    _, neighbors = knn(coordinates.detach(), rows.detach(), group_size)  # (B, g, s)
    return neighbors, centers, coordinates


def _offsets(rows: Tensor, stride: int) -> Tensor:
    """First row number of each cloud, ``(B, 1)``."""
    return torch.arange(rows.shape[0], device=rows.device).unsqueeze(1) * stride


class ScaleLayers(nn.Module):
    """What the blocks of one scale share: the local attention and the groups that it works on.

    Args:
        config: settings of the method.
        dim: channels C.
        num_groups: local groups g.
        group_size: rows s of a local group.
        prompt_centers: learned coordinates ``(P, 3)`` of the prompts, which all scales share.
    """

    def __init__(
        self,
        config: Any,
        dim: int,
        num_groups: int,
        group_size: int,
        prompt_centers: nn.Parameter | None,
    ) -> None:
        super().__init__()
        self.num_groups, self.group_size = num_groups, group_size
        self._prompt_centers = (prompt_centers,)  # in a tuple: the tuner's parameter
        if config.use_adapter:
            self.local_norm = nn.LayerNorm(dim)
            self.local_attention = LocalAttention(dim, config.attention_dim, config.attention_heads)

    def attend(self, rows: Tensor, groups: LocalGroups) -> Tensor:
        """Attention within each group: ``rows (R, C)`` -> ``(B g, s, C)``."""
        return self.local_attention(self.local_norm(rows), groups.neighbors)

    def groups(self, geometry: Geometry, prompted: bool) -> LocalGroups:
        """Local groups of prompt blocks or of plain blocks, computed once per forward pass."""
        kind = "prompted" if prompted else "plain"
        return geometry.once(("point-peft", kind), lambda: self._groups(geometry, prompted))

    def _groups(self, geometry: Geometry, prompted: bool) -> LocalGroups:
        centers, sizes = geometry.centers, (self.num_groups, self.group_size)
        (prompts,) = self._prompt_centers
        if not prompted or prompts is None:
            return local_groups(centers, centers, *sizes)
        rows = torch.cat([prompts.expand(centers.shape[0], -1, -1), centers], dim=1)
        return local_groups(centers, rows, *sizes)


class PointPeftBlock(nn.Module):
    """What makes of a pre-trained block one with prompts, adapters and local aggregation.

    Args:
        dim: channels C of the block.
        config: settings of the method.
        shared: what the blocks of its scale share.
        widths: of the bottleneck beside the MLP, and of that at the end.
        prompted: whether this block receives prompts.
        with_bank: whether these are enriched from a memory bank.
        gated: whether the weight of the bottleneck beside the MLP is learned.
    """

    def __init__(
        self,
        dim: int,
        config: Any,
        shared: ScaleLayers,
        widths: tuple[int, int],
        prompted: bool,
        with_bank: bool,
        gated: bool,
    ) -> None:
        super().__init__()
        C = dim
        self.config = config
        self.prompted, self.gated = prompted, gated
        self._shared = (shared,)  # in a tuple: not a sub-module of every block
        self.bank_adapter: Bottleneck | None = None
        if prompted:
            self.prompt_embeddings = nn.Parameter(torch.empty(config.num_prompts, C))
            nn.init.trunc_normal_(self.prompt_embeddings, std=0.02)
            self.prompt_dropout = nn.Dropout(config.dropout)
            if with_bank:
                self.bank_adapter = Bottleneck(
                    C, config.bank_adapter_dim, residual=True, dropout=config.dropout
                )
        if config.use_adapter:
            scale, dropout = config.init_scale, config.dropout
            # A gate begins at zero: a bottleneck behind it need not be small as well.
            self.adapter = Bottleneck(C, widths[0], False, dropout, 1.0 if gated else scale)
            self.output_adapter = Bottleneck(C, widths[1], True, dropout, scale)
            self.out_transform = nn.Sequential(nn.BatchNorm1d(C), nn.GELU())
        if gated and config.use_adapter:
            self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, block: Block, x: Tensor, geometry: Geometry) -> Tensor:
        """The output of ``block`` with all that, ``(B, prefix + G, C) -> (B, prefix + G, C)``.

        Prompts come and go within the block.
        """
        G = geometry.centers.shape[1]
        prefix = x.shape[1] - G
        if self.prompted:
            front, patches = x.split((prefix, G), dim=1)
            x = torch.cat([front, self.prompts(x, geometry), patches], dim=1)
        x = x + block.attn(block.norm1(x), self.attention_bias(geometry))
        x = x + self.adapt(block.drop_path(block.mlp(block.norm2(x))))
        if self.config.use_adapter:
            x = self.output_adapter(self.aggregate(x, prefix, geometry, block.drop_path))
        if self.prompted:
            front, _, patches = x.split((prefix, self.config.num_prompts, G), dim=1)
            x = torch.cat([front, patches], dim=1)
        return x

    def prompts(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Learned prompts plus the adapted bank prompt, ``(B, P, C)`` (Point-prior Prompt)."""
        prompts = self.prompt_dropout(self.prompt_embeddings.expand(x.shape[0], -1, -1))
        if "bank_prompt" in geometry.context and self.bank_adapter is not None:
            retrieved = geometry.context["bank_prompt"].to(prompts.dtype)
            prompts = prompts + self.bank_adapter(retrieved)
        return prompts.to(x.dtype)

    def attention_bias(self, geometry: Geometry) -> Tensor | None:
        """The tokens' bias, grown by prompts that see everything and are seen by everything."""
        bias, P = geometry.attention_bias, self.config.num_prompts
        if bias is None or not self.prompted:
            return bias
        return geometry.once("point-peft bias", lambda: F.pad(bias, (P, 0, P, 0)))

    def adapt(self, h: Tensor) -> Tensor:
        """The output of the MLP with a bottleneck beside it, ``(B, T, C)``."""
        if not self.config.use_adapter:
            return h
        weight = self.gate if self.gated else self.config.adapter_scale
        return h + weight * self.adapter(h)

    def aggregate(
        self, x: Tensor, first: int, geometry: Geometry, drop_path: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Local aggregation and propagation to the tokens, ``(B, T, C)`` (Geometry-aware Adapter).

        With rows u = [prompts, tokens] of each cloud, gathered into local groups n around k:
        ``n + DropPath(attn(norm(n)))``, pooled over the group, BatchNorm, GELU, plus a share of
        k, carried to the tokens by inverse-distance weights.
        """
        (shared,) = self._shared
        groups = shared.groups(geometry, self.prompted)
        (B, T, _), G = x.shape, geometry.centers.shape[1]
        rows = x.split((first, T - first), dim=1)[1].flatten(0, 1)
        local = select_rows(rows, groups.neighbors) + drop_path(shared.attend(rows, groups))
        pooled = max_pool(local, dim=1)  # (B g, C)
        if self.config.group_pooling == "mean+max":
            pooled = pooled + local.mean(dim=1)
        pooled = self.out_transform(pooled)
        pooled = pooled + self.config.center_coefficient * select_rows(rows, groups.centers)
        spread = groups.weights.to(pooled.dtype) @ pooled.view(B, -1, pooled.shape[-1])
        others, patches = x.split((T - G, G), dim=1)
        patches = patches + self.config.propagation_coefficient * spread
        return torch.cat([others, patches], dim=1)
