"""IDPT: instance-aware dynamic prompt tuning for pre-trained point cloud models.

Zha et al., ICCV 2023, arXiv 2304.07221. A graph network over the patch tokens, late in the frozen
encoder, makes one prompt for each cloud.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.layers import Block, edge_linear
from pointpeft.models.network import Network
from pointpeft.models.trunk import Stream, Trunk
from pointpeft.ops import max_pool
from pointpeft.ops._numerics import full_precision
from pointpeft.peft.frozen_pass import FrozenStreams
from pointpeft.peft.method import Constants, PeftConfig, Tuner

__all__ = ["IDPTConfig", "IDPTTuner"]

_SLOPE = 0.2  # of every LeakyReLU


@dataclass(frozen=True)
class IDPTConfig(PeftConfig):
    """Settings of IDPT; those of the paper but for the learning rate."""

    method = "idpt"
    learning_rate = 2e-3  # in the paper 5e-4, for a hundred times as many steps

    prompt_block: int | None = None  # place of the first block that sees the prompt; None: the last
    num_neighbors: int = 20  # of a token in the graph, itself included
    num_layers: int = 3  # edge convolutions
    reference_compat: bool = False  # with the faults of the paper's code

    def __post_init__(self) -> None:
        check_sizes(self, ["num_neighbors", "num_layers"])
        if self.prompt_block is not None:
            check_sizes(self, ["prompt_block"], least=0)
        check_choices(self, ["reference_compat"], (True, False))

    def resolve(self, backbone: Trunk) -> "IDPTConfig":
        """With the last block in the place of one that was left open.

        Raises:
            ConfigError: the last scale has no such block.
        """
        blocks = backbone.scales[-1].blocks
        place = blocks[-1] if self.prompt_block is None else self.prompt_block
        if place not in blocks:
            raise ConfigError(
                f"prompt_block={place} must be a block of the last scale, {blocks[0]} to "
                f"{blocks[-1]}"
            )
        return replace(self, prompt_block=place)


class IDPTTuner(Tuner):
    """One prompt for each cloud, before one of the last blocks (Sec. 3.2)."""

    config: IDPTConfig

    def __init__(self, model: Network, config: IDPTConfig) -> None:
        super().__init__(model, config)
        C = model.backbone.num_features
        self.prompt_module = GraphPrompt(C, config.num_layers, config.num_neighbors)
        self.prompt_pos = nn.Parameter(torch.empty(1, 1, C))
        nn.init.trunc_normal_(self.prompt_pos, std=0.02)

    def trains(self, name: str) -> bool:
        """The prompt module, the head and the class token."""
        return name.startswith("tuner.") or not name.startswith("model.backbone.")

    def frozen_blocks(self, model: Network) -> int:
        """Those before the prompt."""
        return self.config.prompt_block or 0

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """The stream that the prompt is made of, and those that are looked at."""
        return {"points": self.looked_at(model, frozen)}

    def num_features(self, model: Classifier) -> int:
        """Those of the model, and the prompt."""
        return model.num_pooled + model.backbone.num_features

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """The prompt is made of patch tokens to which this block's positions are not added."""
        if place == self.config.prompt_block:
            prompt = self.prompt_module(stream.patches)
            stream = stream.insert(prompt, self.prompt_pos)
        return super().block(place, block, stream)

    def pool(self, model: Classifier, stream: Stream) -> Tensor:
        """``[class token, prompt, maximum]``, or ``[prompt, pooled]`` without a class token."""
        prompt = stream.tokens[:, stream.prefix - 1]
        pooled = model.pool(stream)
        C = prompt.shape[-1]
        first = C * (stream.prefix - 1)
        return torch.cat([pooled[:, :first], prompt, pooled[:, first:]], dim=-1)


class GraphPrompt(nn.Module):
    """Dynamic graph CNN (Wang et al. 2019) over tokens, and their maximum.

    Args:
        dim: channels C.
        num_layers: edge convolutions.
        num_neighbors: of every token in the space of its features, itself included.
    """

    def __init__(self, dim: int, num_layers: int, num_neighbors: int) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        self.edges = nn.ModuleList(_Edges(dim) for _ in range(num_layers))
        self.fuse = nn.Linear(num_layers * dim, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, G, C) -> (B, 1, C)``."""
        x, outputs = tokens, []
        for edges in self.edges:
            x = edges(x, self.neighbors(x))
            outputs.append(x)
        x = self.fuse(torch.cat(outputs, dim=-1))
        x = F.leaky_relu(self.norm(x.flatten(0, 1)), _SLOPE).view_as(x)
        return max_pool(x, dim=1, keepdim=True)

    def neighbors(self, x: Tensor) -> Tensor:
        """Places of the nearest tokens ``(B, G, k)`` in the space of features ``(B, G, C)``."""
        with full_precision(x):  # rounding would choose others
            x = x.detach().float() if x.dtype.itemsize < 4 else x.detach()
            squares = x.square().sum(dim=-1)
            distance = squares.unsqueeze(2) - 2 * x @ x.transpose(1, 2) + squares.unsqueeze(1)
            k = min(self.num_neighbors, x.shape[1])
            return distance.topk(k, dim=-1, largest=False).indices


class _Edges(nn.Module):
    """``max_j LeakyReLU(BatchNorm(W [h_j - h_i, h_i]))`` over neighbours j of every token i."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, h: Tensor, neighbors: Tensor) -> Tensor:
        """``(B, G, C)`` and ``(B, G, k)`` -> ``(B, G, C)``."""
        edges = edge_linear(self.linear, h, h, neighbors)  # (B, G, k, C)
        edges = self.norm(edges.flatten(0, 2)).view_as(edges)
        return max_pool(F.leaky_relu(edges, _SLOPE), dim=2)
