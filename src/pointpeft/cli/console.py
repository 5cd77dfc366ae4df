"""Where the command line prints, and pieces that several verbs share."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pointpeft.progress import Meter

if TYPE_CHECKING:
    from pointpeft.tasks.shown import Shown

__all__ = [
    "err",
    "headline",
    "out",
    "reading",
    "resumable",
    "show",
    "show_table",
    "speak",
    "tell",
    "warn",
]

out = Console()
"""Standard output: results."""
err = Console(stderr=True)
"""Standard error: warnings, errors and progress."""


def speak() -> None:
    """Have a run say what it does; of several processes the first alone, but for errors."""
    from pointpeft.training.processes import is_first_process

    logging.getLogger("pointpeft").setLevel(logging.INFO)
    out.quiet = not is_first_process()


def tell(text: str, style: str | None = None) -> None:
    """Print a line of the result as it is: no markup, no folding of paths."""
    out.print(Text(text), style=style, soft_wrap=True)


def headline(text: str) -> None:
    """Print a line in rich markup."""
    out.print(text, highlight=False, soft_wrap=True)


def warn(text: str, label: str = "warning") -> None:
    """Print a line beside the results, with a coloured label: of what went wrong, or a "note"."""
    color = {"warning": "yellow", "note": "dim"}.get(label, "bold red")
    err.print(Text.assemble((f"{label}: ", color), text), soft_wrap=True)


def show_table(table: Table) -> None:
    """Print a table; into a pipe or file as wide as it needs, so that no path is folded."""
    if out.is_terminal:
        out.print(table)
        return
    wide = Console(file=out.file, width=10_000, quiet=out.quiet)
    wide.print(table, crop=False)


def show(shown: "Shown") -> None:
    """Print what a task says of its results."""
    if shown.rows:
        table = Table(*shown.columns)
        for row in shown.rows:
            table.add_row(*(escape(cell) for cell in row))
        show_table(table)
    for line in shown.headlines:
        headline(line)
    for line in shown.lines:
        tell(line)


@contextmanager
def reading(title: str = "reading shapes") -> Iterator[Callable[[int, int], None]]:
    """Show how far shapes are read; yields the function to call with (done, total)."""
    if out.quiet:
        yield lambda done, total: None
        return
    with Meter(title, err) as meter:
        yield meter.update


@contextmanager
def resumable(output: Path) -> Iterator[None]:
    """Say how to go on when Ctrl-C stops what is inside, once a run has begun in ``output``."""
    try:
        yield
    except KeyboardInterrupt:
        if (output / "config.yaml").is_file():
            saved = any(any(output.rglob(name)) for name in ("last.ckpt", "metrics.json"))
            text = (
                "every completed epoch is saved; the same command with --resume goes on"
                if saved
                else "nothing was completed; the same command with --resume begins anew"
            )
            warn(text, label="stopped")
        raise
