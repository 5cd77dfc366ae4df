"""The pass through blocks that no training of an adapter changes, and what is kept of it.

It is made once for all adapters of a mixed batch, and once for clouds that come again.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.trunk import Method, Stream, Tokenized, Trunk
from pointpeft.ops._numerics import full_precision

__all__ = ["FrozenPass", "FrozenStreams", "resumed", "retrieval_pass", "retrieved", "with_behind"]


class FrozenStreams:
    """The streams behind the first blocks of a frozen pass, by the blocks' places.

    Args:
        clouds: that went through.
        streams: behind each block.
        rows: places of the clouds that are meant, ``(b,)``; None: all.
    """

    def __init__(
        self, clouds: Tokenized, streams: Sequence[Stream], rows: Tensor | None = None
    ) -> None:
        self._clouds, self._streams, self._rows = clouds, streams, rows

    @property
    def clouds(self) -> Tokenized:
        """As the frozen encoder tokenizes them."""
        return self._clouds if self._rows is None else self._clouds.rows(self._rows)

    def __getitem__(self, place: int) -> Stream:
        stream = self._streams[place]
        return stream if self._rows is None else stream.rows(self._rows)

    def rows(self, rows: Tensor) -> "FrozenStreams":
        """Those of some of the clouds, by their places ``(b,)``."""
        assert self._rows is None, "rows of all clouds"
        return FrozenStreams(self._clouds, self._streams, rows)


@dataclass(frozen=True)
class FrozenPass:
    """A pass of clouds through frozen blocks.

    Attributes:
        key: passes of one trunk with equal keys give equal streams.
        blocks: how many of the first blocks are wanted.
        run: sends clouds through the blocks, with a method that acts on them.
        exact: in full precision, also where the rest is not.
        for_query: only the query of the clouds is made of it.
    """

    key: Hashable
    blocks: int
    run: Callable[[Tokenized, Method], Any] = field(compare=False)
    exact: bool = False
    for_query: bool = False

    def __call__(self, clouds: Tokenized) -> FrozenStreams:
        """The streams behind the wanted blocks."""
        recorder = _Recorder(self.blocks)
        if self.exact:
            with full_precision(clouds.points):
                self.run(clouds, recorder)
        else:
            self.run(clouds, recorder)
        return FrozenStreams(clouds, recorder.streams)

    @staticmethod
    def joined(passes: Iterable["FrozenPass"]) -> "FrozenPass":
        """One for passes of equal keys: through as many blocks as any of them wants."""
        return max(passes, key=lambda each: each.blocks)


class _Recorder(Method):
    """Lets the first blocks run as they are, no others, and keeps the streams behind them."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.streams: list[Stream] = []

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """Nothing behind the last one that is wanted."""
        if place < self.blocks:
            stream = super().block(place, block, stream)
            self.streams.append(stream)
        return stream


def retrieval_pass(trunk: Trunk, for_query: bool = True) -> FrozenPass:
    """That of a frozen encoder in eval mode which makes :meth:`Trunk.retrieval_features`."""
    depth = len(trunk.blocks)
    return FrozenPass("retrieval", depth, trunk.retrieval_features, True, for_query)


def retrieved(trunk: Trunk, frozen: FrozenStreams) -> Tensor:
    """The features of :func:`retrieval_pass`, ``(B, C)``."""
    tokens = frozen[-1].tokens
    with full_precision(tokens):
        return trunk.pool_retrieved(trunk.final_norm(tokens))


def with_behind(model: Network, frozen: FrozenStreams, blocks: int, all_of_them: bool) -> Tokenized:
    """The clouds, from which :func:`resumed` has a pass go on behind frozen blocks.

    Their tokens are left out: nothing looks at them again.

    Args:
        model: what looks at the blocks.
        frozen: streams behind them.
        blocks: how many of the first ones are frozen.
        all_of_them: all frozen blocks are looked at; else those of which the model makes use, which
            are the ends of scales and the taps of a segmenter.
    """
    seen = {scale.blocks[-1] for scale in model.backbone.scales}
    seen |= set(model.taps) if isinstance(model, PartSegmenter) else set()
    places = [p for p in range(blocks) if p in seen or p == blocks - 1 or all_of_them]
    known = {f"{_BEHIND}{place}": frozen[place].tokens for place in places}
    clouds = frozen.clouds
    return replace(clouds, tokens=clouds.tokens[:, :0], known=known)


_BEHIND = "behind block "


def resumed(place: int, stream: Stream) -> Stream | None:
    """What is known of the stream behind a block; None where the block has to run.

    Behind a block that nothing looks at the stream is left as it is.
    """
    context = stream.geometry.context
    places = stream.geometry.once(
        _BEHIND, lambda: [int(n.removeprefix(_BEHIND)) for n in context if n.startswith(_BEHIND)]
    )
    if not places or place > max(places):
        return None
    return stream.with_tokens(context[f"{_BEHIND}{place}"]) if place in places else stream
