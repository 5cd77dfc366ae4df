"""Visual prompt tuning: learned tokens stand beside those of the patches.

Jia et al., ECCV 2022, arXiv 2203.12119. Shallow: they enter in front of the first block and go
through all. Deep: every block has its own, which come and go with it.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pointpeft.errors import check_rates, check_sizes
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Stream
from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["VPTDeepConfig", "VPTShallowConfig", "VPTTuner"]


@dataclass(frozen=True)
class VPTShallowConfig(PeftConfig):
    """Prompts in front of the first block, on several scales of the first block of each."""

    method = "vpt-shallow"
    learning_rate = 2e-3

    num_prompts: int = 10  # tokens P
    dropout: float = 0.0  # of prompts

    def __post_init__(self) -> None:
        check_sizes(self, ["num_prompts"])
        check_rates(self, ["dropout"])


@dataclass(frozen=True)
class VPTDeepConfig(VPTShallowConfig):
    """Prompts of its own for every block."""

    method = "vpt-deep"


class VPTTuner(Tuner):
    """Trains prompts, class token and head."""

    config: VPTShallowConfig

    def __init__(self, model: Network, config: VPTShallowConfig) -> None:
        super().__init__(model, config)
        deep = isinstance(config, VPTDeepConfig)
        self.dropout = nn.Dropout(config.dropout)
        self.prompts = nn.ParameterDict()
        for scale in model.backbone.scales:
            for place in scale.blocks if deep else scale.blocks[:1]:
                prompts = torch.empty(1, config.num_prompts, scale.dim)
                nn.init.trunc_normal_(prompts, std=0.02)
                self.prompts[str(place)] = nn.Parameter(prompts)
        self.deep = deep

    def trains(self, name: str) -> bool:
        """All but the encoder."""
        return not name.startswith("model.backbone.")

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """One block among prompts."""
        if str(place) not in self.prompts:
            return super().block(place, block, stream)
        prompts = self.dropout(self.prompts[str(place)])
        grown = super().block(place, block, stream.insert(prompts, torch.zeros_like(prompts)))
        if not self.deep:
            return grown
        front = grown.tokens[:, : stream.prefix]
        return stream.with_tokens(torch.cat([front, grown.patches], dim=1))
