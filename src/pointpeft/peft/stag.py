"""STAG: a side network of graph convolutions on a frozen point cloud transformer.

A narrow state of every patch collects the inputs of all blocks; from some block on, a graph
convolution over the patch centers transforms it, and its up-projection is added to the tokens.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.models.heads import Classifier, class_token_bytes
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Method, Stream, Tokenized, Trunk
from pointpeft.ops import knn, max_pool
from pointpeft.ops.gathering import select
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

    def constants(self, model: Network, points: Tensor | Tokenized) -> Constants:
        """Of a classifier, the clouds with their tokens behind the first block that is moved.

        They are moved behind the block, so it is as frozen as those below. Known are the tokens in
        front of the patches, ``prefix (B, P, C)``, and the sums of what entered the blocks so far
        by run, ``inputs (B, runs, G, C)``: collecting is linear.
        """
        first, length = self.config.first_block, self.config.run_length
        if not isinstance(model, Classifier) or not self._keeps_below:
            return {}
        found, frozen = model.backbone.tokenize(points), _Frozen(first)
        P = model.run(found, frozen).prefix
        entered = [tokens[:, P:] for tokens in frozen.inputs]
        ends = [*range(0, first + 1, length), first + 1]
        runs = [torch.stack(entered[i:j]).sum(dim=0) for i, j in pairwise(ends)]
        known = {"prefix": frozen.tokens[:, :P], "inputs": torch.stack(runs, dim=1)}
        patches = frozen.tokens[:, P:]
        return {"points": Tokenized(found.points, found.centers, patches, known=known)}

    def constants_key(self, model: Network) -> tuple[str, Hashable] | None:
        """The same with equal class tokens."""
        if not isinstance(model, Classifier) or not self._keeps_below:
            return None
        of = (type(self), self.config.first_block, self.config.run_length)
        return "points", (of, class_token_bytes(model))

    @property
    def _keeps_below(self) -> bool:
        """Whether all that lies below is frozen, and is looked at by no head."""
        return self.freezes_statistics and self.config.head != "lda"

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """What is known from :meth:`constants`."""
        return dict(found.known)

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """Collect the block's input, without its positions; behind it, move the tokens."""
        first, run = self.config.first_block, place // self.config.run_length
        if place <= first and "inputs" in stream.geometry.context:
            if place < first:
                return stream
            stream = self._resume(stream)
            side = stream.state
        else:
            collected = self.collect[run](stream.patches)
            side = collected if stream.state is None else stream.state + collected
            stream = super().block(place, block, stream)
            if place < first:
                return stream.with_state(side)
        side = self.graphs[run - self.first_run](side, self.neighbors(stream))
        moved = F.relu(self.expand[run - self.first_run](side))  # (B, G, C)
        mean = moved.mean(dim=1, keepdim=True).expand(-1, stream.prefix, -1)
        tokens = stream.tokens + torch.cat([mean, moved], dim=1)
        return stream.with_tokens(tokens).with_state(side)

    def _resume(self, stream: Stream) -> Stream:
        """The stream behind the first block that is moved, from what is known of it."""
        known, first, length = (
            stream.geometry.context,
            self.config.first_block,
            self.config.run_length,
        )
        side: Any = 0
        for run, inputs in enumerate(known["inputs"].unbind(dim=1)):
            surplus = min(length, first + 1 - run * length) - 1  # biases that one product lacks
            side = side + self.collect[run](inputs) + surplus * self.collect[run].bias
        tokens = torch.cat([known["prefix"], stream.patches], dim=1)
        return stream.with_tokens(tokens).with_state(side)

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


class _Frozen(Method):
    """Runs the blocks up to one, and notes what enters each and what leaves the last.

    Args:
        last: place of the last block that runs.

    Attributes:
        inputs: tokens, ``last + 1`` times ``(B, T, C)``.
        tokens: behind the last one, ``(B, T, C)``.
    """

    tokens: Tensor

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last
        self.inputs: list[Tensor] = []

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """Nothing behind the last one."""
        if place > self.last:
            return stream
        self.inputs.append(stream.tokens)
        stream = super().block(place, block, stream)
        self.tokens = stream.tokens
        return stream


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
