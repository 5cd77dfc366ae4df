"""Point-PEFT: parameter-efficient fine-tuning for 3D pre-trained models.

Tang et al., AAAI 2024, arXiv 2310.03059. The first blocks receive learned prompts enriched with
features retrieved from a memory bank (Point-prior Prompt), every block gains bottlenecks and a
local aggregation of neighbouring tokens (Geometry-aware Adapter), and biases are tuned.

The default keeps features and coordinates row for row and every cloud to itself;
``reference_compat=True`` repeats the published code, which mixes rows of different clouds.
"""

import copy
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models import Geometry
from pointpeft.peft.aggregation import LocalGroups, local_groups, published_prompt_groups
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.base import PeftConfig, Tuner, register_method
from pointpeft.peft.layers import Bottleneck, LocalAttention

__all__ = ["PointPeftBlock", "PointPeftConfig", "PointPeftTuner"]

_TRAINED = re.compile(
    r"^model\.backbone\.blocks\.\d+\.block\.(norm1|norm2|attn\.proj|mlp\.fc1|mlp\.fc2)\.bias$"
    r"|^model\.backbone\.norm\."  # the final norm, whole
    r"|^model\.backbone\.blocks\.\d+\.(?!block\.)"  # what is added to the blocks
    r"|^model\.(?!backbone\.)"  # class token and head
    r"|^tuner\.(?!retriever\.)"  # what the blocks share
)


_SIZES = (
    "adapter_dim",
    "bank_adapter_dim",
    "attention_dim",
    "attention_heads",
    "second_groups",
    "second_group_size",
)
_NUMBERS = (
    "adapter_scale",
    "center_coefficient",
    "propagation_coefficient",
    "dropout",
    "init_scale",
)
_SWITCHES = ("use_prompt", "use_bank", "use_adapter", "exclude_self", "reference_compat")


@dataclass(frozen=True)
class PointPeftConfig(PeftConfig):
    """Settings of Point-PEFT; published defaults but for ``init_scale`` and the learning rate."""

    method = "point-peft"
    learning_rate = 2e-3  # published: 5e-4, for a hundred times as many steps

    num_prompts: int = 10  # prompt tokens P per prompt block
    prompt_blocks: int = 6  # the first blocks receive prompts
    adapter_dim: int = 16  # width of the bottlenecks in each block
    bank_adapter_dim: int = 8  # width of the bottleneck on the bank's prompt
    attention_dim: int = 18  # width of the local attention
    attention_heads: int = 6
    second_groups: int | None = None  # local groups g; None: half the patches
    second_group_size: int | None = None  # rows s per local group; None: half a patch's points
    adapter_scale: float = 0.7  # weight of the bottleneck beside the MLP
    center_coefficient: float = 0.3  # weight of a group's center row
    propagation_coefficient: float = 0.3  # weight of the aggregated features in the tokens
    dropout: float = 0.1
    use_prompt: bool = True  # ablation: no prompts (and so no bank)
    use_bank: bool = True  # ablation: learned prompts only
    use_adapter: bool = True  # ablation: no Geometry-aware Adapter
    init_scale: float = 0.01  # of the adapters' first up-projections; published, and in compat: 1
    exclude_self: bool = False  # leave a training item out when it looks up the bank
    reference_compat: bool = False  # the published computation, faults included

    def __post_init__(self) -> None:
        check_sizes(self, [name for name in _SIZES if getattr(self, name) is not None])
        check_sizes(self, ["num_prompts"], least=3)  # query, mean, and a nearest item
        check_sizes(self, ["prompt_blocks"], least=0)
        check_numbers(self, _NUMBERS)
        check_choices(self, _SWITCHES, (True, False))
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {self.dropout!r}")
        if self.attention_dim % self.attention_heads:
            raise ConfigError(
                "attention_dim must be a multiple of attention_heads, got "
                f"{self.attention_dim} and {self.attention_heads}"
            )
        if self.reference_compat and not (self.use_prompt and self.use_adapter):
            raise ConfigError("reference_compat=True goes with use_prompt and use_adapter only")

    @property
    def uses_bank(self) -> bool:
        """Prompts are enriched from the bank, unless an ablation turns that off."""
        return self.use_prompt and self.use_bank


class PointPeftTuner(Tuner):
    """Wraps every block and holds what the blocks share.

    Without a bank the prompts are the learned embeddings alone.
    """

    def __init__(self, model: Any, config: PointPeftConfig, bank: MemoryBank | None) -> None:
        super().__init__(model, config, bank)
        backbone, C = model.backbone, model.backbone.num_features
        self.config = config
        if not hasattr(backbone, "tokenizer"):
            raise ConfigError(
                f"point-peft needs a backbone of one scale, and {backbone.spec.name!r} has "
                "several; use method full or linear, or point_mae or point_bert"
            )
        G, S = backbone.tokenizer.num_groups, backbone.tokenizer.group_size
        self.second_groups = config.second_groups or G // 2
        self.second_group_size = config.second_group_size or S // 2
        if config.use_adapter and max(self.second_groups, self.second_group_size) > G:
            raise ConfigError(
                f"second_groups={self.second_groups} and second_group_size="
                f"{self.second_group_size} must not exceed the {G} patches of the backbone"
            )
        if bank is not None and config.uses_bank:
            bank.check(C, config.num_prompts - 2, config.exclude_self)
        self.freezes_statistics = not config.reference_compat
        self.bank = bank if config.uses_bank else None
        self.retriever: Any = None if self.bank is None else frozen_twin(backbone)
        if config.use_adapter:
            self.local_norm = nn.LayerNorm(C)
            self.local_attention = LocalAttention(C, config.attention_dim, config.attention_heads)
        if config.use_prompt and config.use_adapter:
            self.prompt_centers = nn.Parameter(torch.empty(config.num_prompts, 3))
            nn.init.trunc_normal_(self.prompt_centers, std=0.02)
        for i, block in enumerate(backbone.blocks):
            prompted = config.use_prompt and i < config.prompt_blocks
            backbone.blocks[i] = PointPeftBlock(block, config, self, C, prompted)

    def trains(self, name: str) -> bool:
        """Added layers, the head and class token, biases and the final norm."""
        return bool(_TRAINED.search(name))

    def context(self, points: Tensor, query: Tensor | None, exclude: Tensor | None) -> dict:
        """The bank's prompt ``(B, P, C)``, retrieved once per forward pass."""
        if self.bank is None:
            return {}
        if query is None:
            with torch.no_grad():
                query = self.retriever.eval().retrieval_features(points)
        exclude = exclude if self.config.exclude_self else None
        return {"bank_prompt": self.bank.prompt(query, self.config.num_prompts, exclude)}

    def groups(self, geometry: Geometry, prompted: bool) -> LocalGroups:
        """Local groups of prompt blocks or of plain blocks, computed once per forward pass."""
        kind = "prompted" if prompted else "plain"
        return geometry.once(("point-peft", kind), lambda: self._groups(geometry, prompted))

    def _groups(self, geometry: Geometry, prompted: bool) -> LocalGroups:
        centers, sizes = geometry.centers, (self.second_groups, self.second_group_size)
        compat = self.config.reference_compat
        if not prompted:
            return local_groups(centers, centers, *sizes, skip_near_origin=compat)
        if compat:
            G = centers.shape[1]
            return published_prompt_groups(geometry.points, self.prompt_centers, G, *sizes)
        rows = torch.cat([self.prompt_centers.expand(len(centers), -1, -1), centers], dim=1)
        return local_groups(centers, rows, *sizes)


class PointPeftBlock(nn.Module):
    """A pre-trained block with prompts in front, adapters inside and local aggregation behind.

    Args:
        block: the pre-trained block.
        config: settings of the method.
        tuner: what all blocks share.
        dim: channels C.
        prompted: whether this block receives prompts.
    """

    def __init__(
        self, block: Any, config: PointPeftConfig, tuner: PointPeftTuner, dim: int, prompted: bool
    ) -> None:
        super().__init__()
        self.block = block
        self.config = config
        self.prompted = prompted
        self._tuner = (tuner,)  # in a tuple: shared, not a sub-module of every block
        if prompted or config.reference_compat:  # published blocks all carry them, used or not
            self.prompt_embeddings = nn.Parameter(torch.empty(config.num_prompts, dim))
            nn.init.trunc_normal_(self.prompt_embeddings, std=0.02)
            self.prompt_dropout = nn.Dropout(config.dropout)
            if tuner.bank is not None or config.reference_compat:
                self.bank_adapter = Bottleneck(
                    dim, config.bank_adapter_dim, residual=True, dropout=config.dropout
                )
        if config.use_adapter:
            scale = 1.0 if config.reference_compat else config.init_scale
            width, dropout = config.adapter_dim, config.dropout
            self.adapter = Bottleneck(dim, width, False, dropout, scale)
            self.output_adapter = Bottleneck(dim, width, True, dropout, scale)
            self.out_transform = nn.Sequential(nn.BatchNorm1d(dim), nn.GELU())
        if config.reference_compat:
            self.ad_gate = nn.Parameter(torch.zeros(1))  # published, never used

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """``(B, prefix + G, C) -> (B, prefix + G, C)``: prompts come and go within the block."""
        block, prefix = self.block, geometry.num_prefix_tokens
        if self.prompted:
            x = torch.cat([x[:, :prefix], self.prompts(x, geometry), x[:, prefix:]], dim=1)
        x = x + block.attn(block.norm1(x))
        h = block.drop_path(block.mlp(block.norm2(x)))
        x = x + h
        if self.config.use_adapter:
            x = x + self.config.adapter_scale * self.adapter(h)
            x = self.output_adapter(self.aggregate(x, geometry))
        if self.prompted:
            x = torch.cat([x[:, :prefix], x[:, prefix + self.config.num_prompts :]], dim=1)
        return x

    def prompts(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Learned prompts plus the adapted bank prompt, ``(B, P, C)`` (Point-prior Prompt)."""
        prompts = self.prompt_dropout(self.prompt_embeddings.expand(len(x), -1, -1))
        if "bank_prompt" in geometry.context:
            retrieved = geometry.context["bank_prompt"].to(prompts.dtype)
            prompts = prompts + self.bank_adapter(retrieved)
        return prompts.to(x.dtype)

    def aggregate(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Local aggregation and propagation to the tokens, ``(B, T, C)`` (Geometry-aware Adapter).

        With rows u = [prompts, tokens] of each cloud, gathered into local groups n around k:
        ``n + DropPath(attn(norm(n)))``, max over the group, BatchNorm, GELU, plus a share of k,
        carried to the tokens by inverse-distance weights.
        """
        (tuner,) = self._tuner
        groups = tuner.groups(geometry, self.prompted)
        B, G = geometry.centers.shape[:2]
        prefix = x.shape[1] - G
        rows = x[:, geometry.num_prefix_tokens :].flatten(0, 1)
        local = tuner.local_attention(tuner.local_norm(rows), groups.neighbors)
        local = rows[groups.neighbors] + self.block.drop_path(local)
        pooled = self.out_transform(local.amax(dim=1))  # (B g, C)
        pooled = pooled + self.config.center_coefficient * rows[groups.centers]
        spread = groups.weights.to(pooled.dtype) @ pooled.view(B, -1, pooled.shape[-1])
        tokens = x[:, prefix:] + self.config.propagation_coefficient * spread
        return torch.cat([x[:, :prefix], tokens], dim=1)


def frozen_twin(backbone: Any) -> Any:
    """A copy of an encoder that stays as it is while the original is tuned.

    Matrices are shared with the original, which no part of Point-PEFT changes; biases, norms and
    buffers, a few thousand values, are copied.
    """
    shared = {id(p): p for p in backbone.parameters() if p.ndim > 1}
    return copy.deepcopy(backbone, memo=shared).requires_grad_(False).eval()


register_method(PointPeftConfig, PointPeftTuner)
