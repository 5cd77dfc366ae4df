"""One batch, an adapter for every cloud: what adapters have in common runs once."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.peft.frozen_pass import FrozenPass, FrozenStreams, retrieved, together
from pointpeft.peft.method import Constants

__all__ = ["MixedOutputs", "mixed_outputs"]


class MixedOutputs(NamedTuple):
    """What a batch gives.

    Attributes:
        logits: of every cloud, ``(classes,)`` or ``(N, parts)``.
        queries: by adapter, the frozen features ``(b, C)`` of its clouds in their order.
    """

    logits: list[Tensor]
    queries: dict[str, Tensor]


class _Wish(NamedTuple):
    """A frozen pass of an adapter's clouds, and what is made of it for their forward pass."""

    frozen: FrozenPass
    makes: list[Callable[[FrozenStreams], Constants]]


def mixed_outputs(
    trunk: Trunk,
    adapters: nn.ModuleDict,
    found: Tokenized,
    names: Sequence[str],
    category: Tensor | None = None,
    compared: Collection[str] = (),
) -> MixedOutputs:
    """Logits of every cloud by the adapter of its own; see ``PeftModel.forward_mixed``.

    Args:
        trunk: the frozen encoder.
        adapters: by name.
        found: B clouds, as the frozen encoder tokenizes them.
        names: B names of adapters.
        category: numbers of the clouds' categories ``(B,)``, for adapters of part segmentation.
        compared: adapters whose clouds are compared with others, by their frozen features.
    """
    rows = {
        name: torch.tensor([i for i, each in enumerate(names) if each == name])
        for name in dict.fromkeys(names)
    }
    known = _known(trunk, adapters, found, rows, compared)
    logits: dict[int, Tensor] = {}
    for name, own in rows.items():
        adapter: Any = adapters[name]
        given: Constants = {
            "points": found.rows(own) if adapter.keeps_tokenizer else found.points[own],
            **known[name],
        }
        if adapter.task == "part_segmentation" and category is not None:
            given["category"] = category[own]
        logits.update(zip(own.tolist(), adapter(**given), strict=True))
    queries: dict[str, Any] = {name: known[name]["query"] for name in rows if name in compared}
    return MixedOutputs([logits[row] for row in range(len(names))], queries)


def _known(
    trunk: Trunk,
    adapters: nn.ModuleDict,
    found: Tokenized,
    rows: Mapping[str, Tensor],
    compared: Collection[str],
) -> dict[str, Constants]:
    """By adapter, what is known of its clouds behind frozen passes, and queries of those compared.

    Args:
        trunk: the frozen encoder.
        adapters: by name.
        found: the clouds of all adapters.
        rows: by adapter, the places of its clouds.
        compared: adapters whose clouds have a query.
    """
    known: dict[str, Constants] = {name: {} for name in rows}
    wishes: dict[Hashable, dict[str, _Wish]] = defaultdict(dict)

    def wish(name: str, frozen: FrozenPass, make: Callable[[FrozenStreams], Constants]) -> None:
        last_scale = trunk.scales[-1].blocks[0]
        alike = wishes[frozen.key, min(frozen.blocks, last_scale)]
        alike.setdefault(name, _Wish(frozen, [])).makes.append(make)

    for name, own in rows.items():
        adapter: Any = adapters[name]
        tuner = adapter.tuner
        if name in compared:
            frozen = tuner.lookup_pass(trunk)
            if frozen is None:
                known[name]["query"] = tuner.frozen_features(trunk, found.rows(own))
            else:
                wish(name, frozen, lambda streams: {"query": retrieved(trunk, streams)})
        frozen = tuner.frozen_pass(adapter.model) if adapter.keeps_tokenizer else None
        if frozen is not None and not (frozen.for_query and name in compared):
            wish(name, frozen, partial(tuner.known, adapter.model))
    for alike in wishes.values():
        passes, places = [one.frozen for one in alike.values()], [rows[name] for name in alike]
        for name, streams in zip(alike, together(passes, found, places), strict=True):
            for make in alike[name].makes:
                known[name] |= make(streams)
    return known
