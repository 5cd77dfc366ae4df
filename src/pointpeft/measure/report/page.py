"""The report: one page with a table, learning curves, and what each run got right and wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pointpeft.formats import count, human_bytes, percent_range, seconds
from pointpeft.measure.report.figures import Figure, curve, run_colour
from pointpeft.measure.report.rendering import as_json, write_page, write_text
from pointpeft.measure.report.run_page import (
    ANALYSIS,
    ReportRun,
    data_name,
    is_segmentation,
    read_run,
    summary,
    with_spread,
)
from pointpeft.measure.report.test_page import describe_classes, describe_parts

__all__ = ["REPORT", "write_report", "write_run_report"]

Metrics = dict[str, Any]
_CURVES = (
    ("train_loss", "Training loss", ".2~f"),
    ("train_accuracy", "Training accuracy", ".1~%"),
    ("val_accuracy", "Validation accuracy", ".1~%"),
    ("test_accuracy", "Test accuracy", ".1~%"),  # where it selects the epoch
    ("val_instance_iou", "Validation IoU over shapes", ".1~%"),
    ("test_instance_iou", "Test IoU over shapes", ".1~%"),
)


def _results_table(runs: Sequence[ReportRun]) -> tuple[list[str], list[list[str]]]:
    """What the runs reach, and what they cost: headings, and cells by row."""
    first = runs[0].metrics
    split, segmentation = first.get("split", "test"), is_segmentation(first)
    columns: dict[str, Callable[[Metrics], str]] = {}

    def add_share(title: str, key: str) -> None:
        columns[title] = lambda metrics: with_spread(metrics, key)

    if segmentation:
        add_share("IoU over shapes", f"{split}_instance_iou")
        add_share("IoU over categories", f"{split}_class_iou")
        add_share("Accuracy of points", f"{split}_accuracy")
    else:
        title = "Test accuracy" if split == "test" else f"Accuracy ({split})"
        add_share(title, f"{split}_accuracy")
        columns["95 % interval"] = lambda metrics: percent_range(
            metrics.get(f"{split}_accuracy_interval")
        )
    validated = "val_instance_iou" if segmentation else "val_accuracy"
    if any(run.metrics.get(validated) is not None for run in runs):
        add_share("Validation IoU" if segmentation else "Validation accuracy", validated)
    columns |= {
        "Trainable parameters": lambda metrics: count(metrics.get("trainable_parameters")),
        "Stored size": lambda metrics: human_bytes(metrics.get("stored_bytes")),
        "Seconds, one pass" if "adapter" in first else "Seconds per epoch": lambda metrics: seconds(
            metrics.get("seconds_per_epoch", metrics.get("seconds"))
        ),
        "Peak memory": lambda metrics: human_bytes(metrics.get("peak_memory_bytes")),
    }
    rows = [[run.name, *(cell(run.metrics) for cell in columns.values())] for run in runs]
    return ["Method", *columns], rows


def _results_notes(runs: Sequence[ReportRun]) -> list[str]:
    """What a reader of the table must know."""
    first, notes = runs[0].metrics, []
    split = first.get("split", "test")
    items = first.get(f"{split}_items")
    if first.get(f"{split}_accuracy_interval") is not None:
        notes.append(
            f"The 95 % interval says how sure an accuracy is that was measured on {items} shapes: "
            "other shapes of the same kind would likely give a number within it."
        )
    without = first.get("unmeasured_classes", [])
    if without and items:
        what = "category" if is_segmentation(first) else "class"
        notes.append(f"Not measured, since no shape of the {what} was there: {', '.join(without)}.")
    if is_segmentation(first):
        notes.append(
            "IoU is the share of points that the true and the predicted part have in common, of "
            "all points that either has; over shapes it is the mean of all of them, over "
            "categories the mean of the categories' means."
        )
    return notes


def _curves(runs: Sequence[ReportRun]) -> list[tuple[str, Figure]]:
    """What is known of every epoch, under its title."""
    points = " of points" if is_segmentation(runs[0].metrics) else ""
    drawn = []
    for key, title, form in _CURVES:
        figure = curve(runs, key, form)
        if figure is not None:
            drawn.append((title + (points if "accuracy" in key else ""), figure))
    return drawn


def _kept_epochs(runs: Sequence[ReportRun]) -> str:
    """Which epochs were kept, in words; nothing where it is not known."""
    found = []
    for run in runs:
        for seed, epoch in run.best_epochs.items():
            known_by = [run.name] if len(runs) > 1 else []
            known_by += [seed] if len(run.histories) > 1 else []
            found.append(f"{epoch} ({', '.join(known_by)})" if known_by else f"{epoch}")
    return f"A star marks the epoch that was kept: {', '.join(found)}." if found else ""


REPORT = "report.html"
"""Name of the page in a run folder."""
_SHOWN_FIRST = "point-peft"
"""The method whose details a page with several begins with, if it is one of them."""


def write_run_report(folder: str | Path, analysis: dict[str, Any]) -> Path:
    """Add ``analysis.json`` and ``report.html`` to a folder that holds ``metrics.json``.

    Returns:
        The page.
    """
    folder = Path(folder)
    write_text(folder / ANALYSIS, as_json(analysis))
    run = read_run(folder)
    return write_report(folder / REPORT, f"{run.name} on {data_name(run.metrics)}", [run])


def write_report(
    path: str | Path, title: str, runs: Sequence[ReportRun], warning: str = ""
) -> Path:
    """Write a page about ``runs`` that needs no other file and no network.

    Args:
        path: the page.
        title: its heading.
        runs: what it tells of, in this order; all of the same task.
        warning: what a reader must know before all else, if there is such a thing.

    Raises:
        ValueError: there is no run to report.
    """
    if not runs:
        raise ValueError("runs is empty: a report needs at least one")
    segmentation = is_segmentation(runs[0].metrics)
    return write_page(
        path,
        "run.html",
        title=title,
        warning=warning,
        summary=summary(runs),
        results=_results_table(runs),
        notes=_results_notes(runs),
        curves=_curves(runs),
        kept=_kept_epochs(runs),
        runs=[(run.name, run_colour(place)) for place, run in enumerate(runs)],
        shown=next((i for i, r in enumerate(runs) if r.metrics["method"] == _SHOWN_FIRST), 0),
        segmentation=segmentation,
        details=[(describe_parts if segmentation else describe_classes)(run) for run in runs],
        settings=_settings(runs),
    )


def _settings(runs: Sequence[ReportRun]) -> dict[str, str | list[str]]:
    """Texts and lists that a reader may unfold, by their titles."""
    found: dict[str, str | list[str]] = {
        "Settings" if len(runs) == 1 else f"{run.name}: settings": run.config
        for run in runs
        if run.config
    }
    versions = runs[0].metrics.get("versions", {})
    found["Versions"] = [f"{name} {version}" for name, version in versions.items()]
    for key, title in (("notes", "Notes on the data"), ("skipped", "Skipped files")):
        items = list(dict.fromkeys(text for run in runs for text in run.metrics.get(key, ())))
        found[f"{title} ({len(items)})"] = items
    return found
