"""The pass through blocks that no training of an adapter changes, and what is kept of it.

It is made once for all adapters of a mixed batch, and once for clouds that come again.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pointpeft.models.heads import Classifier, class_token
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.trunk import Method, Stream, Tokenized, Trunk
from pointpeft.ops._numerics import full_precision

__all__ = [
    "FrozenPass",
    "FrozenStreams",
    "behind",
    "model_pass",
    "resumed",
    "retrieval_pass",
    "retrieved",
    "together",
    "unrounded",
]

_RETRIEVAL = "retrieval"


class FrozenStreams:
    """The streams behind the first blocks of a frozen pass, by the blocks' places.

    Args:
        clouds: that are meant, as the frozen encoder tokenizes them.
        streams: behind each block, of these clouds or of more.
        rows: their places in the streams, ``(B,)``; None: the streams are theirs.
    """

    def __init__(
        self, clouds: Tokenized, streams: Sequence[Stream], rows: Tensor | None = None
    ) -> None:
        self.clouds = clouds
        self._streams, self._rows = streams, rows

    def __getitem__(self, place: int) -> Stream:
        stream = self._streams[place]
        return stream if self._rows is None else stream.rows(self._rows)

    def tokens(self, place: int) -> Tensor:
        """All tokens of a stream, ``(B, T, C)``."""
        tokens = self._streams[place].tokens
        return tokens if self._rows is None else tokens[self._rows]

    def patches(self, place: int) -> Tensor:
        """Its patch tokens, ``(B, G, C)``."""
        return self.tokens(place)[:, self._streams[place].prefix :]


@dataclass(frozen=True)
class FrozenPass:
    """A pass of clouds through frozen blocks.

    Attributes:
        kind: what the pass is for, a word.
        blocks: how many of the first blocks are wanted.
        run: sends clouds through the blocks, with a method that acts on them.
        inserted: tokens that stand beside the patches, by name.
        exact: in full precision, also where the rest is not.
        for_query: only the query of the clouds is made of it.
    """

    kind: str
    blocks: int
    run: Callable[[Tokenized | Tensor, Method], Any] = field(compare=False)
    inserted: dict[str, Tensor] = field(default_factory=dict, compare=False)
    exact: bool = False
    for_query: bool = False

    @property
    def key(self) -> Hashable:
        """Passes of one trunk with equal keys give equal streams."""
        values = (each.detach().cpu().contiguous() for each in self.inserted.values())
        return self.kind, tuple(each.view(torch.uint8).numpy().tobytes() for each in values)

    def __call__(self, clouds: Tokenized) -> FrozenStreams:
        """The streams behind the wanted blocks."""
        return FrozenStreams(clouds, self.streams(clouds, [self.blocks] * len(clouds)))

    def streams(self, clouds: Tokenized, wanted: Sequence[int]) -> list[Stream]:
        """The streams behind all blocks that any cloud wants.

        Args:
            clouds: B of them.
            wanted: of how many of the first blocks; not rising from cloud to cloud.
        """
        recorder = _Recorder(wanted)
        with full_precision(clouds.points) if self.exact else nullcontext():
            self.run(unrounded(clouds) if self.exact else clouds, recorder)
        return recorder.streams


class _Recorder(Method):
    """Lets the first blocks run as they are, no others, and keeps the streams behind them.

    Args:
        wanted: by clouds, how many; not rising. Clouds that want no more leave the pass.
    """

    def __init__(self, wanted: Sequence[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.streams: list[Stream] = []

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """The block, of clouds that want it."""
        count = sum(blocks > place for blocks in self.wanted)
        if not count:
            return stream
        if count < len(stream.tokens):
            stream = stream.rows(torch.arange(count))
        stream = super().block(place, block, stream)
        self.streams.append(stream)
        return stream


def together(
    passes: Sequence[FrozenPass], clouds: Tokenized, rows: Sequence[Tensor]
) -> list[FrozenStreams]:
    """One pass in the place of several with equal keys.

    Args:
        passes: they end at the same block or in the last scale, since clouds of a batch go from
            scale to scale together.
        clouds: of all passes.
        rows: the places of each pass's own among them, ``(b,)``.

    Returns:
        The streams of each pass.
    """
    order = sorted(range(len(passes)), key=lambda each: -passes[each].blocks)
    own = clouds.rows(torch.cat([rows[each] for each in order]))
    wanted = [passes[each].blocks for each in order for _ in rows[each]]
    streams = passes[order[0]].streams(own, wanted)
    places = torch.arange(len(own)).split([len(rows[each]) for each in order])
    of_pass = dict(zip(order, places, strict=True))
    return [
        FrozenStreams(clouds.rows(rows[each]), streams, of_pass[each])
        for each in range(len(passes))
    ]


def model_pass(model: Network, blocks: int) -> FrozenPass:
    """That of an adapted model through so many first blocks."""
    assert isinstance(model, Classifier | PartSegmenter), "adapted models are of these"
    return FrozenPass("model", blocks, model.run, class_token(model))


def retrieval_pass(trunk: Trunk, for_query: bool = True) -> FrozenPass:
    """That of a frozen encoder in eval mode which makes :meth:`Trunk.retrieval_features`."""
    run = trunk.retrieval_features
    return FrozenPass(_RETRIEVAL, len(trunk.blocks), run, exact=True, for_query=for_query)


def retrieved(trunk: Trunk, frozen: FrozenStreams) -> Tensor:
    """The features of :func:`retrieval_pass`, ``(B, C)``."""
    tokens = frozen.tokens(len(trunk.blocks) - 1)
    with full_precision(tokens):
        return trunk.pool_retrieved(trunk.final_norm(tokens))


def unrounded(clouds: Tokenized) -> Tokenized | Tensor:
    """What a pass in full precision begins with: the points, where autocast rounded tokens."""
    return clouds if clouds.tokens.dtype == clouds.points.dtype else clouds.points


def behind(frozen: FrozenStreams, places: Collection[int]) -> Tokenized:
    """The clouds, with what is known of them behind blocks; :func:`resumed` goes on from there."""
    known = {place: frozen.tokens(place) for place in places}
    return replace(frozen.clouds, known=known)


def resumed(place: int, stream: Stream) -> Stream | None:
    """What is known of the stream behind a block; None where the block has to run.

    Behind a block below the known ones the stream is left as it is.
    """
    context = stream.geometry.context
    places = stream.geometry.once("behind", lambda: [k for k in context if isinstance(k, int)])
    if not places or place > max(places):
        return None
    return stream.with_tokens(context[place]) if place in places else stream
