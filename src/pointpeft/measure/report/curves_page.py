"""One page about a pre-training run, finished or not: all that is known of its epochs."""

import json
from collections.abc import Iterator
from pathlib import Path

from pointpeft.errors import DataError
from pointpeft.formats import counted, human_bytes, percent, seconds
from pointpeft.measure.report.figures import Figure, curve
from pointpeft.measure.report.rendering import write_page
from pointpeft.measure.report.run_page import ReportRun, read_history, read_run

__all__ = ["write_curves_page"]

_TERM = "loss_"
_KNOWN = {
    "train_loss": ("Loss", ".3~g"),
    "svm_accuracy": ("Linear SVM accuracy", ".1~%"),
    "clouds_per_second": ("Clouds per second", ".3~s"),
    "peak_memory_bytes": ("Peak memory so far, bytes", ".3~s"),
    "lr": ("Learning rate", ".1~e"),
}
"""Columns of ``metrics.csv`` in their order on the page, with title and form of the numbers."""


def write_curves_page(path: str | Path, folder: str | Path) -> Path:
    """Write a page that needs no other file and no network.

    Args:
        path: the page.
        folder: of the run.

    Raises:
        DataError: no epoch has ended there.
    """
    folder = Path(folder)
    table = folder / "metrics.csv"
    rows = read_history(table) if table.is_file() else []
    if not rows:
        raise DataError(f"{table} holds no epoch: the first one of this run has not ended")
    losses = [row["train_loss"] for row in rows if row.get("train_loss") is not None]
    if not losses:
        raise DataError(f"{table} is damaged: no epoch has a train_loss")
    finished = _has_ended(folder)
    run = read_run(folder) if finished else ReportRun(folder.resolve().name, {}, {"run": rows})
    state = "The run has ended" if finished else "The run has not ended, or was stopped"
    return write_page(
        path,
        "curves.html",
        title=f"Pre-training: {folder.resolve().name}",
        summary=f"{state}; {counted(len(rows), 'epoch')}, the last one with a loss of "
        f"{losses[-1]:.5g}.",
        facts=_facts(run) if finished else None,
        note="Terms of the loss are before their weights. Of an interrupted epoch the clouds per "
        "second are not known.",
        curves=list(_curves(run, list(rows[-1]))),
        config=run.config or "",
    )


def _has_ended(folder: Path) -> bool:
    """Whether there are results; damaged ones are taken for none, as where a run is resumed."""
    try:
        found = json.loads((folder / "metrics.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() >= {"model", "items", "epochs"}


def _curves(run: ReportRun, columns: list[str]) -> Iterator[tuple[str, Figure]]:
    """What is known under its title: the loss, its terms, then the rest."""
    terms = {key: f"Term: {key.removeprefix(_TERM)}" for key in columns if key.startswith(_TERM)}
    first, *rest = _KNOWN
    others = [key for key in columns if key not in (*_KNOWN, *terms, "epoch")]
    for key in (first, *terms, *rest, *others):
        title, form = _KNOWN.get(key, (terms.get(key, key), ".3~g"))
        if (drawn := curve([run], key, form)) is not None:
            yield title, drawn


def _facts(run: ReportRun) -> tuple[list[str], list[list[str]]]:
    """What the run reached and cost: headings, and one row."""
    m = run.metrics
    cells = {
        "Model": m["model"],
        "Shapes of an epoch": f"{m['items']:,}",
        "Epochs": str(m["epochs"]),
        "Best linear SVM": percent(m.get("best_svm_accuracy")),
        "Seconds per epoch": seconds(m.get("seconds_per_epoch")),
        "Peak memory": human_bytes(m.get("peak_memory_bytes")),
    }
    return list(cells), [list(cells.values())]
