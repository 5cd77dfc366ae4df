"""Where the command line prints, and pieces that several verbs share."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "err",
    "first_process_speaks",
    "human_bytes",
    "out",
    "percent",
    "reading",
    "resumable",
    "show_table",
    "tell",
    "warn",
    "warn_of_files",
]

out = Console()
"""Standard output: results."""
err = Console(stderr=True)
"""Standard error: warnings, errors and progress."""


def first_process_speaks() -> None:
    """Leave results and progress to the first of several processes; errors are shown by all."""
    from pointpeft.tasks.processes import is_first_process

    out.quiet = not is_first_process()


def tell(text: str, style: str | None = None) -> None:
    """Print a line of the result as it is: no markup, no folding of paths."""
    out.print(Text(text), style=style, soft_wrap=True)


def warn(text: str, label: str = "warning") -> None:
    """Print a line beside the results, with a coloured label: of what went wrong, or a "note"."""
    color = {"warning": "yellow", "note": "dim"}.get(label, "bold red")
    err.print(Text.assemble((f"{label}: ", color), text), soft_wrap=True)


def warn_of_files(predictions: Iterable[Any]) -> None:
    """Print what is to be known of each file that was predicted, or why it could not be read."""
    for one in predictions:
        for warning in one.warnings:
            warn(f"{one.file}: {warning}")
        if one.error:
            warn(one.error, label="not read")


def show_table(table: Table) -> None:
    """Print a table; into a pipe or file as wide as it needs, so that no path is folded."""
    if out.is_terminal:
        out.print(table)
        return
    wide = Console(file=out.file, width=10_000, quiet=out.quiet)
    wide.print(table, crop=False)


@contextmanager
def reading(title: str = "reading shapes") -> Iterator[Callable[[int, int], None]]:
    """A progress bar for reading shapes; yields the function to call with (done, total)."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = out.quiet or not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=disable) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total)

        yield update


@contextmanager
def resumable(output: Path) -> Iterator[None]:
    """Say how to go on when Ctrl-C stops what is inside, once a run has begun in ``output``."""
    try:
        yield
    except KeyboardInterrupt:
        if (output / "config.yaml").is_file():
            text = "every completed epoch is saved; the same command with --resume goes on"
            warn(text, label="stopped")
        raise


def percent(value: float | None) -> str:
    """A share as text."""
    return "-" if value is None else f"{100 * value:.1f} %"


def human_bytes(value: float) -> str:
    """A size as text."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
