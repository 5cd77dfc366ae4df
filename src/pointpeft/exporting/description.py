"""What a reader of an exported file has to know, beside the graph."""

import json
from typing import Any

from pointpeft import __version__
from pointpeft.exporting.graph import Exportable
from pointpeft.models import get_entry, state_hash

__all__ = ["as_texts", "describe"]


def describe(model: Exportable, precision: str) -> dict[str, Any]:
    """The properties of an exported file, as plain values.

    "input" is how clouds are prepared, as an adapter says it; for an encoder it is the usual way.
    "base" is the identity of the encoder, without the place that its weights came from.
    """
    adapter, spec = model.adapter, model.trunk.spec
    found: dict[str, Any] = {
        "pointpeft": __version__,
        "model": spec.name,
        "task": model.task,
        "method": model.method,
        "inputs": list(model.inputs),
        "output": model.output,
        "input": {"num_points": model.num_points, "normalize": "unit_ball", "up_axis": "y"},
        "precision": precision,
        "licence": get_entry(spec.name).licence,
        "base": {"name": spec.name, "hash": state_hash(model.trunk)},
    }
    if model.outside:
        finest = model.trunk.scales[0]
        found["patches"] = {"num_groups": finest.num_groups, "group_size": finest.group_size}
        found["patches"]["skip_near_origin"] = bool(model.trunk.config.skip_near_origin)
    if adapter is not None:
        found["base"]["hash"] = adapter.base_hash
        found["temperature"] = adapter.temperature
        found["class_names"] = list(adapter.class_names or ())
        found["parts"] = adapter.parts
        found["input"] |= (adapter.input or {}).get("transform", {})
    return {name: value for name, value in found.items() if value not in (None, [])}


def as_texts(described: dict[str, Any]) -> dict[str, str]:
    """The same as texts: what is no text itself is JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in described.items()
    }
