"""PPT: positional prompt tuning.

Zhang et al., arXiv 2408.11567. The tokens of a second, possibly coarser cut of the cloud stand
beside those of the first as prompts, with their positions. Three bottlenecks, shared by all blocks,
adapt the frozen network: of the patches, of the prompts, and beside the MLP.

Both cuts begin at the same point, so the patches of the second one are the first of those of the
first one: the prompts are copies of tokens that are there, and nothing is cut or embedded twice.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.models.heads import Classifier, classification_head
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Stream, Trunk
from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["PPTConfig", "PPTTuner"]

_TRAINED = re.compile(
    r"^tuner\.|^model\.(?!backbone\.)"
    r"|^model\.backbone\.(tokenizers?(\.\d+)?\.embed\.first_conv|pos_embeds?(\.\d+)?)\."
)


@dataclass(frozen=True)
class PPTConfig(PeftConfig):
    """Settings of PPT; those of the paper but for the learning rate."""

    method = "ppt"
    learning_rate = 1e-3  # in the paper 5e-4 or 1e-4, for a hundred times as many steps

    num_prompts: int | None = None  # patches of the second cut; None: as many as of the first
    width: int = 256  # channels between the projections of the bottlenecks
    reference_compat: bool = False  # with the faults of the paper's code

    def __post_init__(self) -> None:
        check_sizes(self, ["width"])
        check_choices(self, ["reference_compat"], (True, False))
        if self.num_prompts is not None:
            check_sizes(self, ["num_prompts"])

    def resolve(self, backbone: Trunk) -> "PPTConfig":
        """With the number of prompts.

        Raises:
            ConfigError: there are more than patches.
        """
        patches = min(scale.num_groups for scale in backbone.scales)
        prompts = self.num_prompts
        if prompts is None:
            return self if len(backbone.scales) > 1 else replace(self, num_prompts=patches)
        if prompts > patches:
            raise ConfigError(f"num_prompts={prompts} must not exceed the {patches} patches")
        return self


class PPTTuner(Tuner):
    """Trains the bottlenecks, the first layers of the tokenizer, positions, class token and head.

    On several scales each has prompts and bottlenecks of its own.
    """

    config: PPTConfig

    def __init__(self, model: Network, config: PPTConfig) -> None:
        super().__init__(model, config)
        self.scales = nn.ModuleList(
            _Scale(scale.dim, config.width) for scale in model.backbone.scales
        )
        self.places = [number for number, s in enumerate(model.backbone.scales) for _ in s.blocks]
        self.first_blocks = [scale.blocks[0] for scale in model.backbone.scales]

    def trains(self, name: str) -> bool:
        """What the class says."""
        return bool(_TRAINED.match(name))

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """One block, in front of and within which the bottlenecks act."""
        if place in self.first_blocks:
            stream = self.with_prompts(stream)
        layers: Any = self.scales[self.places[place]]
        x = stream.tokens + stream.positions
        first, prompts, patches = x.tensor_split((stream.state, stream.prefix), dim=1)
        prompts = prompts + layers.of_prompts(prompts)
        patches = patches + layers.of_patches(patches)
        x = block.attend(torch.cat([first, prompts, patches], dim=1), stream.geometry)
        x = x + block.drop_path(block.mlp(block.norm2(x))) + layers.of_all(x)
        return stream.with_tokens(x)

    def with_prompts(self, stream: Stream) -> Stream:
        """The stream with copies of the first patches in front of all; its state is where."""
        count = self.config.num_prompts or stream.patches.shape[1]
        positions = stream.positions[:, stream.prefix :][:, :count]
        tokens = self.prompts(stream, count)
        return stream.insert(tokens, positions).with_state(stream.prefix)

    def prompts(self, stream: Stream, count: int) -> Tensor:
        """Tokens of the second cut, ``(B, count, C)``."""
        return stream.patches[:, :count]

    def num_features(self, model: Classifier) -> int:
        """Those of the model, and the mean over prompts."""
        return model.num_pooled + model.backbone.num_features

    def pool(self, model: Classifier, stream: Stream) -> Tensor:
        """Class token, and the means over patches and over prompts, ``(B, 3 C)``.

        On several scales it is what the model pools, and the mean over prompts.
        """
        prompts = stream.tokens[:, stream.state : stream.prefix].mean(dim=1)
        if len(model.backbone.scales) > 1:
            return torch.cat([model.pool(stream), prompts], dim=-1)
        return torch.cat([stream.tokens[:, 0], stream.patches.mean(dim=1), prompts], dim=-1)

    def head(self, model: Classifier, num_classes: int) -> nn.Module:
        """The usual head with GELU in place of ReLU."""
        head = classification_head(self.num_features(model), num_classes, activation=nn.GELU)
        head.apply(_init)
        return head


class _Scale(nn.Module):
    """The three bottlenecks of one scale."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.of_patches, self.of_prompts, self.of_all = (
            nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, dim)) for _ in range(3)
        )
        self.apply(_init)


def _init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
