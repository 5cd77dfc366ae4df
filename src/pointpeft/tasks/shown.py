"""What a task has printed of its results, as plain values: the command line only prints it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from pointpeft.formats import counted, enumerate_names, percent, percent_range, same_for_all

__all__ = ["Outcome", "Predicted", "Shown", "basis", "interval", "spread"]

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
    """The deviation of a share over seeds, and that of each seed, where there are several.

    Of a method whose seeds change nothing it says that they are alike.
    """
    if f"{key}_std" not in metrics:
        return ""
    if same_for_all(metrics[f"{key}_std"]):
        return f" with each of {len(metrics[f'{key}_per_seed'])} seeds"
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
class Outcome:
    """What was found in one file.

    Attributes:
        file: as it was named.
        value: for programs: ready for JSON.
        rows: for people: of the table, none where the file cannot be used.
        warnings: what was noticed.
        error: why the file cannot be used, or None.
    """

    file: str
    value: dict[str, Any]
    rows: Sequence[tuple[str, ...]] = ()
    warnings: Sequence[str] = ()
    error: str | None = None


@dataclass(frozen=True)
class Predicted:
    """What is found in some files, one after the other.

    Attributes:
        outcomes: one for each file, made when it is asked for.
        columns: names of the columns of the table.
        total: files that there are outcomes of.
        notes: what is done to every file because it was asked for.
        written: the file that the outcomes are written into, if there is one: then no table is
            shown.
        done: files whose results were in it before.
        failed: how many of those could not be read.
    """

    outcomes: Iterable[Outcome]
    columns: tuple[str, ...]
    total: int
    notes: Sequence[str] = ()
    written: Path | None = None
    done: int = 0
    failed: int = 0
