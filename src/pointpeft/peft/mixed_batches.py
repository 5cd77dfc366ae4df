"""One batch, an adapter for every cloud: what adapters have in common runs once."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.ops._numerics import full_precision
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


def mixed_outputs(
    trunk: Trunk,
    adapters: nn.ModuleDict,
    found: Tokenized,
    names: Sequence[str],
    category: Tensor | None = None,
    compared: Collection[str] = (),
) -> MixedOutputs:
    """What every cloud gives by the adapter of its own; see ``PeftModel.forward_mixed``.

    Args:
        trunk: the frozen encoder.
        adapters: by name.
        found: B clouds, as the frozen encoder tokenizes them.
        names: B names of adapters.
        category: numbers of the clouds' categories ``(B,)``, for adapters of part segmentation.
        compared: adapters whose clouds are compared with others, by their frozen features.

    Returns:
        The logits, and the queries of ``compared``.
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
    """By adapter, what is known of its clouds behind passes that it has in common with others.

    And the queries of those compared, whether in common or not.

    Args:
        trunk: the frozen encoder.
        adapters: by name.
        found: the clouds of all adapters.
        rows: by adapter, the places of its clouds.
        compared: adapters whose clouds have a query.
    """
    known: dict[str, Constants] = {name: {} for name in rows}
    sharing: dict[Hashable, dict[str, FrozenPass]] = defaultdict(dict)
    uses: dict[Hashable, list[Callable[[FrozenStreams], Constants]]] = defaultdict(list)
    last_scale = trunk.scales[-1].blocks[0]
    asked = set()  # passes that are made for a single adapter, too

    def share(name: str, one: FrozenPass, use: Callable[[FrozenStreams], Constants]) -> Hashable:
        alike = one.key, min(one.blocks, last_scale)
        sharing[alike][name] = one
        uses[alike, name].append(use)
        return alike

    for name, own in rows.items():
        adapter: Any = adapters[name]
        tuner = adapter.tuner
        lookup = tuner.lookup_pass(trunk) if name in compared else None
        if lookup is not None:
            asked.add(share(name, lookup, lambda streams: {"query": retrieved(trunk, streams)}))
        elif name in compared:
            with full_precision(found.points):
                known[name]["query"] = tuner.frozen_features(trunk, found.rows(own))
        frozen = tuner.frozen_pass(adapter.model) if adapter.keeps_tokenizer else None
        if frozen is not None and not (frozen.for_query and name in compared):
            share(name, frozen, partial(tuner.known, adapter.model))
    for alike, passes in sharing.items():
        if len(passes) == 1 and alike not in asked:
            continue  # its adapter makes it by itself
        places = [rows[name] for name in passes]
        made = together(list(passes.values()), found, places)
        for name, streams in zip(passes, made, strict=True):
            for use in uses[alike, name]:
                known[name] |= use(streams)
    return known
