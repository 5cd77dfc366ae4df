"""What a task has printed of its results, as plain values: the command line only prints it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Predicted", "Shown"]


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
