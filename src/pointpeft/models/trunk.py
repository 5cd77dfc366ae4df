"""The trunk: what every backbone is, the one loop over its blocks, and where methods act on it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models.loadable import Core
from pointpeft.pretrained import PretrainedTrunk

if TYPE_CHECKING:
    from pointpeft.models.heads import Classifier
    from pointpeft.models.layers import Block

__all__ = ["PLAIN", "Geometry", "Method", "Scale", "Stream", "Tokenized", "Trunk"]

T = TypeVar("T")


class Scale(NamedTuple):
    """One scale of a backbone, which has a single one unless it is hierarchical.

    Attributes:
        blocks: places of its blocks in ``backbone.blocks``.
        dim: channels C of its tokens.
        num_groups: patches G of a cloud.
        group_size: members S of a patch: points, or patches of the finer scale.
    """

    blocks: range
    dim: int
    num_groups: int
    group_size: int


@dataclass(frozen=True)
class Geometry:
    """Coordinates behind the tokens of one forward pass.

    Every block of a backbone (of a scale, where it has several) receives the same object, so
    whatever depends on coordinates alone (neighbourhoods, interpolation weights, masks) is
    computed on first use and then reused.

    Attributes:
        points: the cloud ``(B, N, 3)``.
        centers: patch centers ``(B, G, 3)``, in the order of the patch tokens.
        context: conditioning tensors that the caller of the model hands to its blocks.
        attention_bias: ``(B, 1, T, T)``, added to the attention scores of every block; None where
            all tokens see each other.
    """

    points: Tensor
    centers: Tensor
    context: Mapping[Any, Tensor] = field(default_factory=dict)
    attention_bias: Tensor | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, rows: Tensor) -> "Geometry":
        """Some of the clouds, by their places ``(b,)``."""
        context = {name: values[rows] for name, values in self.context.items()}
        bias = None if self.attention_bias is None else self.attention_bias[rows]
        return Geometry(self.points[rows], self.centers[rows], context, bias)

    def grown(self, count: int) -> "Geometry":
        """The geometry of a sequence with ``count`` more tokens in front, which all see."""
        bias = self.attention_bias
        if bias is None:
            return self
        return Geometry(self.points, self.centers, self.context, F.pad(bias, (count, 0, count, 0)))

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return ``compute()``, evaluated at the first call with this ``key`` only."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]


@dataclass(frozen=True)
class Tokenized:
    """Clouds cut into patches, with the tokens of the finest ones.

    Every pass over the clouds begins with it, so several passes share one, see
    :meth:`Trunk.tokenize`.

    Attributes:
        points: the clouds ``(B, N, 3)``.
        centers: of the finest patches, ``(B, G, 3)``.
        tokens: theirs, ``(B, G, C)``, before any block; none where they are not needed again.
        known: what a method needs to go on from there, ``(B, ...)`` each by its name, or tokens by
            the place of the block that they left, see :meth:`pointpeft.Tuner.known`.
    """

    points: Tensor
    centers: Tensor
    tokens: Tensor
    known: Mapping[Any, Tensor] = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return len(self.points)

    def rows(self, rows: Tensor) -> "Tokenized":
        """Some of the clouds, by their places ``(b,)``."""
        known = {name: values[rows] for name, values in self.known.items()}
        return Tokenized(self.points[rows], self.centers[rows], self.tokens[rows], known=known)

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> "Tokenized":
        """The clouds of all batches, of which the same is known."""
        known = {name: torch.cat([b.known[name] for b in batches]) for name in batches[0].known}
        return Tokenized(
            torch.cat([b.points for b in batches]),
            torch.cat([b.centers for b in batches]),
            torch.cat([b.tokens for b in batches]),
            known=known,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(
            each.nbytes for each in (self.points, self.centers, self.tokens, *self.known.values())
        )


@dataclass(frozen=True)
class Stream:
    """What flows from block to block.

    Attributes:
        tokens: ``(B, T, C)``: first those without a place in space, then one for each patch.
        positions: ``(B, T, C)``, added at the input of each block.
        geometry: where the patches are.
        prefix: tokens in front that have no place in space: a class token, prompts.
        state: what a method carries from block to block.
    """

    tokens: Tensor
    positions: Tensor
    geometry: Geometry
    prefix: int = 0
    state: Any = None

    @property
    def patches(self) -> Tensor:
        """Tokens of the patches, ``(B, G, C)``."""
        return self.tokens[:, self.prefix :]

    def with_tokens(self, tokens: Tensor) -> "Stream":
        """The same stream with other tokens ``(B, T, C)``."""
        return Stream(tokens, self.positions, self.geometry, self.prefix, self.state)

    def rows(self, rows: Tensor) -> "Stream":
        """Some of the clouds, by their places ``(b,)``, without a state."""
        tokens, positions = self.tokens[rows], self.positions[rows]
        return Stream(tokens, positions, self.geometry.rows(rows), self.prefix)

    def with_state(self, state: object) -> "Stream":
        """The same stream with another state of the method."""
        return Stream(self.tokens, self.positions, self.geometry, self.prefix, state)

    def insert(self, tokens: Tensor, positions: Tensor) -> "Stream":
        """Put tokens behind the prefix, in front of the patches; they see and are seen by all.

        Args:
            tokens: ``(B, P, C)``, or ``(1, P, C)`` for all clouds alike.
            positions: theirs, of the same shape or ``(1, P, C)``.
        """
        B, P = self.tokens.shape[0], tokens.shape[1]

        def between(new: Tensor, old: Tensor) -> Tensor:
            front, back = old[:, : self.prefix], old[:, self.prefix :]
            return torch.cat([front, new.expand(B, -1, -1), back], dim=1)

        return Stream(
            between(tokens, self.tokens),
            between(positions, self.positions),
            self.geometry.grown(P),
            self.prefix + P,
            self.state,
        )


class Method(nn.Module):
    """Where a tuning method acts on a forward pass; by itself it does nothing.

    A method overrides what it needs. It never changes the trunk, which others may share.
    """

    def num_features(self, model: "Classifier") -> int:
        """Channels that :meth:`pool` gives to the head of a classification model."""
        return model.num_pooled

    def head(self, model: "Classifier", num_classes: int) -> nn.Module:
        """A fresh head of a classification model, ``(B, F) -> (B, classes)``."""
        return model.make_head(num_classes)

    def embed(self, trunk: "Trunk", stream: Stream) -> Stream:
        """The stream before the first block of each scale."""
        return stream

    def block(self, place: int, block: "Block", stream: Stream) -> Stream:
        """One block, the one at ``place`` of ``trunk.blocks``."""
        tokens = block(stream.tokens + stream.positions, stream.geometry)
        return stream.with_tokens(tokens)

    def finish(self, trunk: "Trunk", stream: Stream) -> Stream:
        """The stream behind the last block, as the head of a classification model looks at it."""
        return stream.with_tokens(trunk.final_norm(stream.tokens))

    def pool(self, model: "Classifier", stream: Stream) -> Tensor:
        """What the head of a classification model is given, ``(B, F)``."""
        return model.pool(stream)


PLAIN = Method()
"""The trunk alone."""


class Trunk(PretrainedTrunk, Core):
    """What every backbone is: tokenizers, position embeddings, blocks and norms.

    Attributes:
        num_features: channels of its last tokens.
        scales: finest first; a plain transformer has one.
        blocks: of all scales in one list, finest first.
    """

    task = "features"
    num_features: int
    scales: tuple[Scale, ...]
    blocks: nn.ModuleList

    @property
    def core(self) -> "Trunk":
        """The encoder itself."""
        return self

    def block_at(self, place: int) -> "Block":
        """One of :attr:`blocks`."""
        return self.blocks[place]  # type: ignore[return-value]

    @property
    def final_norm(self) -> nn.Module:
        """The norm behind the last block."""
        raise NotImplementedError

    def regroup(self, **settings: Any) -> None:
        """Cut clouds into other patches from now on, by settings of the config."""
        raise NotImplementedError

    def tokenize(self, points: Tensor | Tokenized) -> Tokenized:
        """Cut ``points (B, N, 3)`` into patches and embed them; what is tokenized stays so."""
        raise NotImplementedError

    def tokenize_patches(self, points: Tensor, neighborhoods: Tensor, centers: Tensor) -> Tokenized:
        """The same of clouds that come cut into their finest patches.

        Args:
            points: the clouds ``(B, N, 3)``; no patch is looked up in them.
            neighborhoods: ``(B, G, S, 3)``, relative to the center of each patch, nearest first.
            centers: ``(B, G, 3)``, in farthest-point order.
        """
        raise NotImplementedError

    def retrieval_features(self, points: Tensor | Tokenized, method: Method = PLAIN) -> Tensor:
        """One feature per cloud for retrieval and linear SVMs, ``(B, N, 3) -> (B, C)``."""
        raise NotImplementedError

    def pool_retrieved(self, tokens: Tensor) -> Tensor:
        """What retrieval compares of normalised tokens, ``(B, G, C) -> (B, C)``."""
        raise NotImplementedError

    def run(
        self, stream: Stream, method: Method = PLAIN, blocks: range | None = None
    ) -> list[Stream]:
        """The stream behind each block, in their order, before any norm.

        This is the one loop through blocks. Positions are added at the input of every block and
        stay in the residual stream.

        Args:
            stream: what enters the first of the blocks.
            method: acts on every block.
            blocks: their places; None: all.
        """
        outputs = []
        for place in range(len(self.blocks)) if blocks is None else blocks:
            stream = method.block(place, self.block_at(place), stream)
            outputs.append(stream)
        return outputs
