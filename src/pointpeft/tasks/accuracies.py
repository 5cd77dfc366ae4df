"""What stands beside an accuracy: how sure it is, and what it was measured on."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from pointpeft.formats import counted, enumerate_names, percent_range

__all__ = ["basis", "interval"]

_MOST_NAMES = 8


def interval(bounds: Sequence[float]) -> str:
    """A confidence interval as text that says so."""
    return f"95 % interval {percent_range(bounds)}"


def basis(metrics: dict[str, Any], split: str = "test") -> str:
    """Interval, shapes and classes of an accuracy, and the classes that it says nothing of.

    The text is safe in rich markup.
    """
    names, without = metrics["class_names"], metrics.get("unmeasured_classes", [])
    classes = counted(len(names), "class", "classes")
    if without:
        classes = f"{len(names) - len(without)} of {classes}"
    key = f"{split}_accuracy_interval"
    parts = [interval(metrics[key])] if key in metrics else []
    parts.append(f"{counted(metrics[f'{split}_items'], 'shape')}, {classes}")
    if without:
        parts.append(f"not measured: {escape(enumerate_names(without, _MOST_NAMES))}")
    return "; ".join(parts)
