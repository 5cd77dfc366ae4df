"""Adapters: a bottleneck in every block, behind or beside its layers.

Serial (Houlsby et al., ICML 2019, arXiv 1902.00751): behind attention and behind the MLP. Parallel
(AdaptFormer, Chen et al., NeurIPS 2022, arXiv 2205.13535): beside the MLP.
"""

from dataclasses import dataclass

from torch import nn

from pointpeft.errors import check_choices, check_numbers, check_rates, check_sizes
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Stream
from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["AdapterConfig", "AdapterTuner"]


@dataclass(frozen=True)
class AdapterConfig(PeftConfig):
    """Settings of bottleneck adapters."""

    method = "adapter"
    learning_rate = 2e-3

    form: str = "parallel"  # beside the MLP; or "serial": behind attention and MLP
    width: int = 32  # channels between the projections
    scale: float = 1.0  # of what a bottleneck gives
    dropout: float = 0.1  # between the projections

    def __post_init__(self) -> None:
        check_choices(self, ["form"], ("parallel", "serial"))
        check_sizes(self, ["width"])
        check_numbers(self, ["scale"])
        check_rates(self, ["dropout"])


class AdapterTuner(Tuner):
    """Trains the bottlenecks, class token and head. They begin at zero."""

    config: AdapterConfig

    def __init__(self, model: Network, config: AdapterConfig) -> None:
        super().__init__(model, config)
        dims = [scale.dim for scale in model.backbone.scales for _ in scale.blocks]
        self.beside_mlp = nn.ModuleList(_bottleneck(C, config) for C in dims)
        if config.form == "serial":
            self.behind_attention = nn.ModuleList(_bottleneck(C, config) for C in dims)

    def trains(self, name: str) -> bool:
        """All but the encoder."""
        return not name.startswith("model.backbone.")

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """The block with its bottlenecks."""
        x, bias = stream.tokens + stream.positions, stream.geometry.attention_bias
        adapt, scale = self.beside_mlp[place], self.config.scale
        if self.config.form == "parallel":
            x = block.attend(x, stream.geometry)
            h = block.norm2(x)
            return stream.with_tokens(x + block.drop_path(block.mlp(h) + scale * adapt(h)))
        h = block.attn(block.norm1(x), bias)
        x = x + block.drop_path(h + scale * self.behind_attention[place](h))
        h = block.mlp(block.norm2(x))
        return stream.with_tokens(x + block.drop_path(h + scale * adapt(h)))


def _bottleneck(dim: int, config: AdapterConfig) -> nn.Sequential:
    down, up = nn.Linear(dim, config.width), nn.Linear(config.width, dim)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)
    return nn.Sequential(down, nn.GELU(), nn.Dropout(config.dropout), up)
