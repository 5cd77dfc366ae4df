"""Point-PEFT: parameter-efficient fine-tuning for 3D pre-trained models.

Tang et al., AAAI 2024, arXiv 2310.03059. Blocks receive learned prompts enriched with features
retrieved from a memory bank (Point-prior Prompt), every block gains bottlenecks and a local
aggregation of neighbouring tokens (Geometry-aware Adapter), and biases are tuned.

Features and coordinates are kept row for row, and every cloud to itself;
``reference_compat=True`` is another tuner, see ``compat/methods.py``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_rates, check_sizes
from pointpeft.files import with_tuples
from pointpeft.models import Scale
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.point_m2ae import check_counts
from pointpeft.models.trunk import Stream, Tokenized, Trunk
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.frozen_pass import (
    FrozenPass,
    FrozenStreams,
    retrieval_pass,
    retrieved,
    unrounded,
)
from pointpeft.peft.method import Constants, PeftConfig, Tuner
from pointpeft.peft.point_peft_block import PointPeftBlock, ScaleLayers
from pointpeft.peft.sharing import frozen_view, view

__all__ = ["PointPeftConfig", "PointPeftTuner"]

_BIASES = re.compile(
    r"^model\.backbone\.blocks\.\d+\.(norm1|norm2|attn\.proj|mlp\.fc1|mlp\.fc2)\.bias$"
)
_TRAINED = re.compile(
    r"^model\.(?!backbone\.)"  # class token and head
    r"|^tuner\.(?!retriever\.)"  # what is added to the blocks
)


_SIZES = (
    "bank_adapter_dim",
    "attention_dim",
    "attention_heads",
    "second_groups",
    "second_group_size",
)
_HEADS = 6  # of the local attention
_NUMBERS = ("adapter_scale", "center_coefficient", "init_scale")
_PARTS = ("use_prompt", "use_adapter", "use_bias")
_SWITCHES = (*_PARTS, "use_bank", "exclude_self", "reference_compat")


@dataclass(frozen=True)
class PointPeftConfig(PeftConfig):
    """Settings of Point-PEFT; those of the paper but for ``init_scale`` and the learning rate."""

    method = "point-peft"
    learning_rate = 2e-3  # in the paper 5e-4, for a hundred times as many steps

    num_prompts: int | None = None  # tokens P per prompt block; None: 10, on several scales 16
    prompt_blocks: int | None = None  # the first ones; None: 6, on several scales all blocks
    adapter_dim: int | tuple[int, ...] = 16  # width of the bottlenecks, one or one per scale
    output_adapter_dim: int | tuple[int, ...] | None = None  # of the last one; None: adapter_dim
    bank_adapter_dim: int = 8  # width of the bottleneck on the bank's prompt
    attention_dim: int = 18  # width of the local attention
    attention_heads: int | None = None  # None: 6, in compat those of the encoder
    second_groups: int | None = None  # local groups g; None: half the patches, or the next scale's
    second_group_size: int | None = None  # rows s per local group; None: likewise
    adapter_scale: float = 0.7  # weight of the bottleneck beside the MLP; learned on several scales
    group_pooling: str = "max"  # of a local group; or "mean+max"
    center_coefficient: float = 0.3  # weight of a group's center row
    propagation_coefficient: float | None = None  # of what tokens receive; None: 0.3, or 0.2
    dropout: float = 0.1  # of prompts and bottlenecks
    use_prompt: bool = True  # ablation: no prompts (and so no bank)
    use_bank: bool = True  # ablation: learned prompts only
    use_adapter: bool = True  # ablation: no Geometry-aware Adapter
    use_bias: bool = True  # ablation: biases of the encoder and its final norm stay as they are
    init_scale: float = 0.01  # of the adapters' first up-projections; in the paper 1
    bank_size: int | None = None  # k-means prototypes in place of the items; None: the items
    exclude_self: bool = False  # leave a training item out when it looks up the bank
    reference_compat: bool = False  # as the papers' code computes, faults included
    query_grouping: dict[str, Any] | None = None  # of the encoder of queries, where it differs

    def __post_init__(self) -> None:
        check_sizes(self, [name for name in _SIZES if getattr(self, name) is not None])
        for name in ("adapter_dim", "output_adapter_dim"):
            if isinstance(width := getattr(self, name), tuple):
                check_counts(name, width)
            elif width is not None:
                check_sizes(self, [name])
        if self.bank_size is not None:
            check_sizes(self, ["bank_size"])
            if self.exclude_self:
                raise ConfigError("exclude_self=True needs the items: leave bank_size out")
        if self.num_prompts is not None:
            check_sizes(self, ["num_prompts"], least=3)  # query, mean, and a nearest item
        if self.prompt_blocks is not None:
            check_sizes(self, ["prompt_blocks"], least=0)
        if self.propagation_coefficient is not None:
            check_numbers(self, ["propagation_coefficient"])
        check_numbers(self, _NUMBERS)
        check_choices(self, _SWITCHES, (True, False))
        check_choices(self, ["group_pooling"], ("max", "mean+max"))
        check_rates(self, ["dropout"])
        heads = self.attention_heads or (1 if self.reference_compat else _HEADS)
        if self.attention_dim % heads:
            raise ConfigError(
                "attention_dim must be a multiple of attention_heads, got "
                f"{self.attention_dim} and {heads}"
            )
        if self.reference_compat and not all(getattr(self, part) for part in _PARTS):
            off = next(part for part in _PARTS if not getattr(self, part))
            raise ConfigError(f"reference_compat=True has all parts: leave out {off}=False")

    @property
    def uses_bank(self) -> bool:
        """Prompts are enriched from the bank, unless there are none or an ablation forbids it."""
        return self.use_prompt and self.use_bank and self.prompt_blocks != 0

    def resolve(self, backbone: Trunk) -> Self:
        """With the paper's values for what was left open, which hang on the number of scales."""
        several = len(backbone.scales) > 1
        defaults: dict[str, Any] = {
            "num_prompts": 16 if several else 10,
            "prompt_blocks": len(backbone.blocks) if several else 6,
            "propagation_coefficient": 0.2 if several else 0.3,
            "attention_heads": backbone.config.num_heads if self.reference_compat else _HEADS,
        }
        open_ones = {key: value for key, value in defaults.items() if getattr(self, key) is None}
        return replace(self, **open_ones)


class PointPeftTuner(Tuner):
    """Stands beside every block, and holds what the blocks share.

    Without a bank the prompts are the learned embeddings alone. On several scales the bank's
    prompt goes to the blocks of the last one, whose width it has.
    """

    config: Any  # settings without open ones
    rebuilt = ("retriever.",)
    takes_bank = True
    scale_layers: ClassVar[type[ScaleLayers]] = ScaleLayers
    beside_block: ClassVar[type[PointPeftBlock]] = PointPeftBlock

    def __init__(self, model: Network, config: Any, bank: MemoryBank | None = None) -> None:
        super().__init__(model, config)
        backbone = model.backbone
        if bank is not None and config.uses_bank:
            bank.check(backbone.num_features, config.num_prompts - 2, config.exclude_self)
        prompted = config.use_prompt and config.prompt_blocks > 0
        reached = config.prompt_blocks > backbone.scales[-1].blocks[0]  # else for nothing
        self.bank = bank if config.uses_bank and reached else None
        self._with_bank = self.can_retrieve()
        self.retriever: Any = None
        self._has_own_encoder = False
        if self.bank is not None:
            self.retriever = query_encoder(backbone, config.query_grouping)
        self.prompt_centers: nn.Parameter | None = None
        if config.use_adapter and self.groups_prompts(prompted):
            self.prompt_centers = nn.Parameter(torch.empty(config.num_prompts, 3))
            nn.init.trunc_normal_(self.prompt_centers, std=0.02)
        self.scales, self.blocks = nn.ModuleList(), nn.ModuleList()
        several, last = len(backbone.scales) > 1, len(backbone.scales) - 1
        self._final_norm = f"model.backbone.norms.{last}." if several else "model.backbone.norm."
        sizes = second_level(backbone.scales, config)
        widths = adapter_widths(config, len(backbone.scales))
        for place, scale in enumerate(backbone.scales):
            shared = self.scale_layers(config, scale.dim, *sizes[place], self.prompt_centers)
            self.scales.append(shared)
            for i in scale.blocks:
                added = self.beside_block(
                    scale.dim,
                    config,
                    shared,
                    widths[place],
                    prompted=config.use_prompt and i < config.prompt_blocks,
                    with_bank=self._with_bank and place == last,
                    gated=several,
                )
                self.blocks.append(added)

    def can_retrieve(self) -> bool:
        """Whether blocks have adapters for the bank's prompt."""
        return self.bank is not None

    def groups_prompts(self, prompted: bool) -> bool:
        """Whether prompts have coordinates; ``prompted`` says whether there are prompts."""
        return prompted

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """A block with what is added to it."""
        tokens = stream.tokens + stream.positions
        return stream.with_tokens(self.blocks[place](block, tokens, stream.geometry))

    def trains(self, name: str) -> bool:
        """Added layers, the head and class token, biases and the final norm."""
        tuned = bool(_BIASES.search(name)) or name.startswith(self._final_norm)
        return bool(_TRAINED.search(name)) or (tuned and self.config.use_bias)

    def set_bank(self, bank: MemoryBank, encoder: Trunk) -> None:
        """Retrieve from ``bank`` with queries of ``encoder``."""
        config = self.config
        if not config.uses_bank or not self._with_bank:
            raise ConfigError("the model was made without adapters for a memory bank")
        bank.check(encoder.num_features, config.num_prompts - 2, config.exclude_self)
        device = next(self.scales.parameters()).device
        self.bank = bank.to(device)
        self.retriever = frozen_view(encoder).to(device)
        self._has_own_encoder = True

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """The bank's prompt ``(B, P, C)``, retrieved once per forward pass."""
        if self.bank is None:
            return {}
        if query is None:
            with torch.no_grad():
                query = self.query(found)
        exclude = exclude if self.config.exclude_self else None
        return {"bank_prompt": self.bank.prompt(query, self.config.num_prompts, exclude)}

    def frozen_features(self, trunk: Trunk, found: Tokenized) -> Tensor:
        """The queries of the bank, where there is one."""
        return super().frozen_features(trunk, found) if self.bank is None else self.query(found)

    def lookup_pass(self, trunk: Trunk) -> FrozenPass | None:
        """None also where queries are of another encoder, or grouped otherwise."""
        own = self.bank is not None and (self._has_own_encoder or self.config.query_grouping)
        plain = type(self).features is Tuner.features
        return retrieval_pass(trunk) if plain and not own else None

    def frozen_pass(self, model: Network) -> FrozenPass | None:
        """That which makes the queries."""
        return None if self.bank is None else self.lookup_pass(self.retriever)

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """The queries."""
        return {"query": retrieved(self.retriever, frozen)}

    def constants(self, model: Network, points: Tensor | Tokenized) -> Constants:
        """The queries, however they are grouped."""
        if self.bank is None:
            return {}
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            return {"query": self.query(model.backbone.tokenize(points))}

    def query(self, found: Tokenized) -> Tensor:
        """What the frozen encoder makes of the clouds, ``(B, C)``.

        Its patches and tokens are those of the adapted pass, in which no tokenizer is trained;
        under autocast these are rounded, and it makes its own.
        """
        clouds = found.points if self.config.query_grouping else unrounded(found)
        return self.features(self.retriever.eval(), clouds)


def adapter_widths(config: PointPeftConfig, num_scales: int) -> list[tuple[int, int]]:
    """Widths of the bottlenecks in the blocks of every scale: beside the MLP, and at the end.

    Raises:
        ConfigError: there are not as many as scales.
    """

    def of_scales(name: str, width: int | tuple[int, ...]) -> tuple[int, ...]:
        widths = width if isinstance(width, tuple) else (width,) * num_scales
        if len(widths) != num_scales:
            raise ConfigError(
                f"{name} must be one number or one for each of the {num_scales} scales of the "
                f"encoder, got {width}"
            )
        return widths

    inner = of_scales("adapter_dim", config.adapter_dim)
    last = config.output_adapter_dim
    return list(zip(inner, inner if last is None else of_scales("output_adapter_dim", last),
                    strict=True))  # fmt: skip


def second_level(scales: tuple[Scale, ...], config: PointPeftConfig) -> list[tuple[int, int]]:
    """Number and size of the local groups of every scale.

    The groups of a scale are those of the next one; the last scale has half as many as patches, and
    at least one.

    Raises:
        ConfigError: a scale has too few patches for them.
    """
    asked = (config.second_groups, config.second_group_size)
    if len(scales) > 1 and any(asked):
        raise ConfigError(
            "second_groups and second_group_size are those of the next scale on a backbone of "
            "several scales; leave them out"
        )
    last = scales[-1]
    size = last.group_size if len(scales) > 1 else max(1, last.group_size // 2)
    sizes = [(coarser.num_groups, coarser.group_size) for _, coarser in pairwise(scales)]
    sizes.append((asked[0] or max(1, last.num_groups // 2), asked[1] or size))
    for (groups, members), scale in zip(sizes, scales, strict=True):
        if config.use_adapter and max(groups, members) > scale.num_groups:
            names = "num_groups and group_sizes of the next scale, of the last one half and its own"
            raise ConfigError(
                f"second_groups={groups} and second_group_size={members}"
                f"{f' ({names})' if len(scales) > 1 else ''} must not exceed the "
                f"{scale.num_groups} patches of the scale (num_groups)"
            )
    return sizes


def query_encoder(backbone: Trunk, grouping: Mapping[str, Any] | None = None) -> Trunk:
    """The frozen encoder as it makes queries.

    Args:
        backbone: the encoder.
        grouping: settings in which queries differ: numbers and sizes of groups, radii.
    """
    encoder = view(backbone).eval()
    if grouping:
        encoder.regroup(**with_tuples(grouping))
    return encoder
