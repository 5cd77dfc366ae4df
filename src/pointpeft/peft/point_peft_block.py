"""The layers of Point-PEFT: what stands beside a block, and what the blocks of a scale share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models import Geometry
from pointpeft.ops.gathering import select_rows
from pointpeft.peft.added_layers import Bottleneck, LocalAttention
from pointpeft.peft.aggregation import LocalGroups, local_groups

__all__ = ["PointPeftBlock", "ScaleLayers"]


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
        rows = torch.cat([prompts.expand(len(centers), -1, -1), centers], dim=1)
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

    def forward(self, block: Any, x: Tensor, geometry: Geometry) -> Tensor:
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
        prompts = self.prompt_dropout(self.prompt_embeddings.expand(len(x), -1, -1))
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
        pooled = local.amax(dim=1)  # (B g, C)
        if self.config.group_pooling == "mean+max":
            pooled = pooled + local.mean(dim=1)
        pooled = self.out_transform(pooled)
        pooled = pooled + self.config.center_coefficient * select_rows(rows, groups.centers)
        spread = groups.weights.to(pooled.dtype) @ pooled.view(B, -1, pooled.shape[-1])
        others, patches = x.split((T - G, G), dim=1)
        patches = patches + self.config.propagation_coefficient * spread
        return torch.cat([others, patches], dim=1)
