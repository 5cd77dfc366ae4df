"""STAG: a side network of graph convolutions on a frozen point cloud transformer.

A narrow state of every patch collects the inputs of all blocks; from some block on, a graph
convolution over the patch centers transforms it, and its up-projection is added to the tokens.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Stream, Trunk
from pointpeft.ops import knn, max_pool
from pointpeft.ops.gathering import select
from pointpeft.peft.frozen_pass import FrozenStreams, resumed
from pointpeft.peft.method import Constants, PeftConfig, Tuner

__all__ = ["STAGConfig", "STAGTuner"]


@dataclass(frozen=True)
class STAGConfig(PeftConfig):
    """Settings of STAG; the defaults are those of STAG-std but for the learning rate.

    STAG-sl, in which runs of three blocks share side layers, has ``run_length=3, first_block=3``.
    """

    method = "stag"
    learning_rate = 2e-3  # in the paper 5e-4, for a hundred times as many steps

    width: int = 192  # channels R of the side state
    num_neighbors: int = 8  # of a patch in the graph, itself included
    run_length: int | None = None  # blocks that share one set of side layers; None: all of them
    first_block: int | None = None  # the first one whose tokens are moved; None: half of them
    reference_compat: bool = False  # with the faults of the paper's code

    def __post_init__(self) -> None:
        check_sizes(self, ["width", "num_neighbors"])
        check_choices(self, ["reference_compat"], (True, False))
        if self.run_length is not None:
            check_sizes(self, ["run_length"])
        if self.first_block is not None:
            check_sizes(self, ["first_block"], least=0)

    def resolve(self, backbone: Trunk) -> "STAGConfig":
        """With what was left open.

        Raises:
            ConfigError: the backbone has several scales, or no such block.
        """
        depth, scales = len(backbone.blocks), len(backbone.scales)
        if scales > 1:
            raise ConfigError(
                f"method stag needs a backbone of one scale, {backbone.spec.name} has {scales}: "
                "take point_mae or point_bert, or another method"
            )
        first = depth // 2 if self.first_block is None else self.first_block
        if first >= depth:
            raise ConfigError(f"first_block={first} must be a block of the {depth}, from 0")
        return replace(self, run_length=self.run_length or depth, first_block=first)


class STAGTuner(Tuner):
    """The side network beside the blocks.

    Nothing before the first block whose tokens are moved needs a gradient, since a class token
    stays at its random start too.
    """

    config: Any  # settings without open ones

    def __init__(self, model: Network, config: Any) -> None:
        super().__init__(model, config)
        C, R, depth = model.backbone.num_features, config.width, len(model.backbone.blocks)
        runs = -(-depth // config.run_length)
        self.first_run = config.first_block // config.run_length  # the first that moves tokens
        self.collect = nn.ModuleList(nn.Linear(C, R) for _ in range(runs))
        self.graphs = nn.ModuleList(_Graph(R) for _ in range(self.first_run, runs))
        self.expand = nn.ModuleList(nn.Linear(R, C) for _ in range(self.first_run, runs))

    def trains(self, name: str) -> bool:
        """The side network and the head."""
        return name.startswith(("tuner.", "model.head."))

    def num_features(self, model: Classifier) -> int:
        """Those of a token."""
        return model.backbone.num_features

    def frozen_blocks(self, model: Network) -> int:
        """Up to the first one whose tokens are moved: they are moved behind it."""
        return self.config.first_block + 1

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """The streams behind frozen blocks, and what entered them.

        That is summed over the blocks of a run, ``inputs (B, runs, G, C)``: collecting is linear.
        """
        first, length = self.config.first_block, self.config.run_length
        clouds = self.looked_at(model, frozen)
        entered = [frozen.clouds.tokens, *map(frozen.patches, range(first))]
        ends = [*range(0, first + 1, length), first + 1]
        runs = [torch.stack(entered[i:j]).sum(dim=0) for i, j in pairwise(ends)]
        known = {**clouds.known, "inputs": torch.stack(runs, dim=1)}
        return {"points": replace(clouds, known=known)}

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """Collect the block's input, without its positions; behind it, move the tokens."""
        first, run = self.config.first_block, place // self.config.run_length
        known = resumed(place, stream)
        if known is not None and place < first:
            return known
        if known is not None:
            side = self._collected(stream.geometry.context["inputs"])
        else:
            side = self.collect[run](stream.patches)
            side = side if stream.state is None else stream.state + side
        stream = super().block(place, block, stream)
        if place < first:
            return stream.with_state(side)
        side = self.graphs[run - self.first_run](side, self.neighbors(stream))
        moved = F.relu(self.expand[run - self.first_run](side))  # (B, G, C)
        mean = moved.mean(dim=1, keepdim=True).expand(-1, stream.prefix, -1)
        tokens = stream.tokens + torch.cat([mean, moved], dim=1)
        return stream.with_tokens(tokens).with_state(side)

    def _collected(self, inputs: Tensor) -> Tensor:
        """The side state at the first block that is moved, from the known inputs of runs."""
        first, length = self.config.first_block, self.config.run_length
        side: Any = 0
        for run, entered in enumerate(inputs.unbind(dim=1)):
            surplus = min(length, first + 1 - run * length) - 1  # biases that one product lacks
            side = side + self.collect[run](entered) + surplus * self.collect[run].bias
        return side

    def neighbors(self, stream: Stream) -> Tensor:
        """Places of the nearest centers of every center, ``(B, G, k)``; found once for all."""
        centers = stream.geometry.centers
        k = min(self.config.num_neighbors, centers.shape[1])
        return stream.geometry.once("stag", lambda: knn(centers, centers, k)[1])

    def finish(self, trunk: Trunk, stream: Stream) -> Stream:
        """Without the final norm."""
        return stream

    def pool(self, model: Classifier, stream: Stream) -> Tensor:
        """The mean over all tokens."""
        return stream.tokens.mean(dim=1)


class _Graph(nn.Module):
    """``FC(P s_i + max_j Q s_j)`` over neighbours j of every patch i, itself included."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, side: Tensor, neighbors: Tensor) -> Tensor:
        """``(B, G, R)`` and ``(B, G, k)`` -> ``(B, G, R)``."""
        near = max_pool(select(self.near(side), neighbors), dim=2)
        return self.out(self.own(side) + near)
