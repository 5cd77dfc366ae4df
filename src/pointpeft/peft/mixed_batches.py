"""One batch, an adapter for every cloud: what adapters have in common runs once."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.models.trunk import Tokenized
from pointpeft.peft.frozen_pass import FrozenPass, together

__all__ = ["mixed_logits"]


def mixed_logits(
    adapters: nn.ModuleDict,
    found: Tokenized,
    names: Sequence[str],
    category: Tensor | None = None,
    query: Tensor | None = None,
) -> list[Tensor]:
    """Logits of every cloud by the adapter of its own; see ``PeftModel.forward_mixed``.

    Args:
        adapters: by name.
        found: B clouds, as the frozen encoder tokenizes them.
        names: B names of adapters.
        category: numbers of the clouds' categories ``(B,)``, for adapters of part segmentation.
        query: retrieval features ``(B, C)`` of the clouds, where they are known.

    Returns:
        For each cloud ``(classes,)`` or ``(N, parts)``.
    """
    rows = {
        name: torch.tensor([i for i, each in enumerate(names) if each == name])
        for name in dict.fromkeys(names)
    }
    known = {} if query is None else {"query": query}
    in_common = _constants_in_common(adapters, found, rows, known)
    logits: dict[int, Tensor] = {}
    for name, own in rows.items():
        adapter: Any = adapters[name]
        given = {"points": found.rows(own) if adapter.keeps_tokenizer else found.points[own]}
        given |= {key: values[own] for key, values in known.items()}
        given |= in_common.get(name, {})
        if adapter.task == "part_segmentation" and category is not None:
            given["category"] = category[own]
        logits.update(zip(own.tolist(), adapter(**given), strict=True))
    return [logits[row] for row in range(len(names))]


def _constants_in_common(
    adapters: nn.ModuleDict,
    found: Tokenized,
    rows: Mapping[str, Tensor],
    known: Mapping[str, Tensor],
) -> dict[str, dict[str, Any]]:
    """By adapter, what is known of its clouds where it has a frozen pass in common with others.

    Args:
        rows: by adapter, the places of its clouds.
        known: constants that need not be made.
    """
    passes: dict[Hashable, dict[str, FrozenPass]] = defaultdict(dict)
    for name in rows:
        adapter: Any = adapters[name]
        wanted = adapter.tuner.frozen_pass(adapter.model) if adapter.keeps_tokenizer else None
        if wanted is not None and not (wanted.for_query and "query" in known):
            last_scale = adapter.model.backbone.scales[-1].blocks[0]
            passes[wanted.key, min(wanted.blocks, last_scale)][name] = wanted
    constants: dict[str, dict[str, Any]] = {}
    for alike in passes.values():
        if len(alike) == 1:
            continue  # its adapter makes it by itself
        streams = together([*alike.values()], found, [rows[name] for name in alike])
        for name, own in zip(alike, streams, strict=True):
            adapter = adapters[name]
            constants[name] = adapter.tuner.known(adapter.model, own)
    return constants
