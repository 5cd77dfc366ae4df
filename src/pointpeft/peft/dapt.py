"""DAPT: dynamic adapter meets prompt tuning.

Zhou et al., CVPR 2024, arXiv 2403.01439. Every operation of the encoder is followed by a scale and
a shift, every MLP has a bottleneck beside it whose output a learned number scales for each token,
and every block turns what its bottleneck gave into one more token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_rates, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.layers import Attention, Block, attention
from pointpeft.models.network import Network
from pointpeft.models.trunk import Stream, Trunk
from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["DAPTConfig", "DAPTTuner"]


@dataclass(frozen=True)
class DAPTConfig(PeftConfig):
    """Settings of DAPT; those of the paper for PB-T50-RS but for the learning rate.

    The head is given the class token, the prompts and the maximum over patches, in this order; an
    encoder of several scales gives what it pools in place of the first and the last of them.
    """

    method = "dapt"
    learning_rate = 2e-3  # in the paper 5e-4, for a hundred times as many steps

    adapter_dim: int = 64  # width of the bottlenecks; in the paper 72 for ModelNet40
    dropout: float = 0.1  # between their projections; in the paper 0 to 0.5 by data set
    class_token: bool = True  # give the head the class token
    prompt_token: str | None = "mean"  # of all blocks' prompts; or "max"; None: not given to it
    patch_token: bool = True  # give the head the maximum over patches
    init_std: float = 0.02  # of the scales around one, and the shifts around zero
    reference_compat: bool = False  # with the faults of the paper's code

    def __post_init__(self) -> None:
        check_sizes(self, ["adapter_dim"])
        check_rates(self, ["dropout"])
        check_numbers(self, ["init_std"])
        check_choices(self, ["class_token", "patch_token", "reference_compat"], (True, False))
        check_choices(self, ["prompt_token"], ("mean", "max", None))
        if not (self.class_token or self.patch_token or self.prompt_token):
            raise ConfigError("class_token, prompt_token and patch_token: the head needs one")


class DAPTTuner(Tuner):
    """Trains modulations, bottlenecks, class token and head.

    Positions are added once, in front of the first block of a scale. The state of the stream is the
    number of class tokens, behind which the prompts stand.
    """

    config: DAPTConfig

    def __init__(self, model: Network, config: DAPTConfig) -> None:
        super().__init__(model, config)
        trunk, std = model.backbone, config.init_std
        self.patches = nn.ModuleList(_Modulation(scale.dim, std) for scale in trunk.scales)
        self.first_blocks = [scale.blocks[0] for scale in trunk.scales]
        self.blocks = nn.ModuleList(
            _DynamicBlock(scale.dim, trunk.block_at(place).mlp.fc1.out_features, config)
            for scale in trunk.scales
            for place in scale.blocks
        )
        self.norm = None
        if model.task == "classification":  # segmenters have norms of their own
            self.norm = _Modulation(trunk.num_features, std)

    def trains(self, name: str) -> bool:
        """All but the encoder."""
        return not name.startswith("model.backbone.")

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """One block, behind which there is one more prompt."""
        if place in self.first_blocks:
            stream = self.enter(self.patches[self.first_blocks.index(place)], stream)
        tokens, prompt = self.blocks[place](block, stream.tokens, stream.geometry.attention_bias)
        return stream.with_tokens(tokens).insert(prompt, torch.zeros_like(prompt))

    def enter(self, modulation: nn.Module, stream: Stream) -> Stream:
        """The stream in front of a scale: patches are modulated, then positions are added."""
        front = stream.tokens[:, : stream.prefix]
        tokens = torch.cat([front, modulation(stream.patches)], dim=1) + stream.positions
        positions = torch.zeros_like(stream.positions)
        return Stream(tokens, positions, stream.geometry, stream.prefix, state=stream.prefix)

    def finish(self, trunk: Trunk, stream: Stream) -> Stream:
        """The final norm, modulated."""
        stream = super().finish(trunk, stream)
        return stream if self.norm is None else stream.with_tokens(self.norm(stream.tokens))

    def num_features(self, model: Classifier) -> int:
        """The parts that the config asks for."""
        C, c = model.backbone.num_features, self.config
        if len(model.backbone.scales) > 1:
            return model.num_pooled + C * (c.prompt_token is not None)
        return C * (c.class_token + (c.prompt_token is not None) + c.patch_token)

    def pool(self, model: Classifier, stream: Stream) -> Tensor:
        """Class token, prompts and patches, ``(B, F)``."""
        c, prompts = self.config, stream.tokens[:, stream.state : stream.prefix]
        pooled = [] if c.prompt_token is None else [
            prompts.mean(dim=1) if c.prompt_token == "mean" else prompts.amax(dim=1)
        ]  # fmt: skip
        if len(model.backbone.scales) > 1:
            return torch.cat([model.pool(stream), *pooled], dim=-1)
        front = [stream.tokens[:, 0]] if c.class_token else []
        back = [stream.patches.amax(dim=1)] if c.patch_token else []
        return torch.cat([*front, *pooled, *back], dim=-1)


class _Modulation(nn.Module):
    """``x * gamma + beta`` by channel."""

    def __init__(self, dim: int, std: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.normal(1.0, std, (dim,)))
        self.beta = nn.Parameter(torch.normal(0.0, std, (dim,)))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        return torch.addcmul(self.beta, x, self.gamma)


class _DynamicAdapter(nn.Module):
    """``u = s * up(GELU(down(m)))`` with ``m = norm(x)`` and a scale ``s = ReLU(scale(m))``."""

    def __init__(self, dim: int, config: DAPTConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.scale = nn.Linear(dim, 1)
        self.down, self.up = nn.Linear(dim, config.adapter_dim), nn.Linear(config.adapter_dim, dim)
        self.dropout = nn.Dropout(config.dropout)
        for layer in (self.scale, self.down):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, C) -> (B, T, C)``."""
        m = self.norm(x)
        return F.relu(self.scale(m)) * self.up(self.dropout(F.gelu(self.down(m))))


class _DynamicBlock(nn.Module):
    """What stands beside and between the layers of one block."""

    def __init__(self, dim: int, hidden: int, config: DAPTConfig) -> None:
        super().__init__()
        std = config.init_std
        self.norm1, self.norm2 = _Modulation(dim, std), _Modulation(dim, std)
        self.qkv, self.proj = _Modulation(3 * dim, std), _Modulation(dim, std)
        self.fc1, self.fc2 = _Modulation(hidden, std), _Modulation(dim, std)
        self.prompt = _Modulation(dim, std)
        self.adapter = _DynamicAdapter(dim, config)

    def forward(self, block: Block, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, T, C)`` behind the block, and its prompt ``(B, 1, C)``."""
        x = x + block.drop_path(self.attend(block.attn, self.norm1(block.norm1(x)), bias))
        n = self.norm2(block.norm2(x))
        u = self.adapter(n)
        hidden = F.gelu(self.fc1(block.mlp.fc1(n)))
        x = x + block.drop_path(self.fc2(block.mlp.fc2(hidden)) + u)
        return x, self.prompt(F.gelu(u).mean(dim=1, keepdim=True))

    def attend(self, attn: Attention, x: Tensor, bias: Tensor | None) -> Tensor:
        """The attention of a block, with a modulation behind either of its layers."""
        B, T, C = x.shape
        qkv = self.qkv(attn.qkv(x)).view(B, T, 3, attn.num_heads, C // attn.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C / heads)
        x = attention(q, k, v, bias)
        return self.proj(attn.proj(x.transpose(1, 2).reshape(B, T, C)))
