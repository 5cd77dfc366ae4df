"""What a task has printed of its results, as plain values: the command line only prints it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape

from pointpeft.formats import counted, enumerate_names, percent, percent_range

__all__ = ["Predicted", "Shown", "basis", "interval", "spread"]

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


def spread(metrics: dict[str, Any], key: str) -> str:
    """The deviation of a share over seeds, and that of each seed, where there are several."""
    if f"{key}_std" not in metrics:
        return ""
    each = ", ".join(percent(value) for value in metrics[f"{key}_per_seed"])
    return f" +- {percent(metrics[f'{key}_std'])} over seeds ({each})"


@dataclass(frozen=True)
class Shown:
    """A table and lines.

    Attributes:
        columns: names of the table's columns.
        rows: its rows, as plain text; without any there is no table.
        headlines: lines in rich markup.
        lines: lines of plain text, behind them.
    """

    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    headlines: Sequence[str] = ()
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Predicted:
    """What was found in some files.

    Attributes:
        outcomes: one for each file, with ``file``, ``warnings`` and ``error``, which is None where
            the file could be used.
        shown: for people.
        values: for programs: one for each file, ready for JSON.
        notes: what was done to every file because it was asked for.
    """

    outcomes: Sequence[Any]
    shown: Shown
    values: Sequence[dict[str, Any]] = field(default_factory=list)
    notes: Sequence[str] = ()
