"""The table at the top of a page, and the learning curves below it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pointpeft.formats import (
    count,
    human_bytes,
    mean_and_spread,
    percent_range,
    seconds,
)
from pointpeft.measure.report.figures import Figure, curve
from pointpeft.measure.report.run_page import ReportRun, is_segmentation

__all__ = ["Curve", "Table", "curves", "kept_epochs", "results_notes", "results_table"]

Metrics = dict[str, Any]
_CURVES = (
    ("train_loss", "Training loss", ".2~f"),
    ("train_accuracy", "Training accuracy", ".1~%"),
    ("val_accuracy", "Validation accuracy", ".1~%"),
    ("test_accuracy", "Test accuracy", ".1~%"),  # where it selects the epoch
    ("val_instance_iou", "Validation IoU over shapes", ".1~%"),
    ("test_instance_iou", "Test IoU over shapes", ".1~%"),
)


class Table(NamedTuple):
    """Headings, and cells by row."""

    columns: list[str]
    rows: list[list[str]]


class Curve(NamedTuple):
    """A learning curve under its title."""

    title: str
    figure: Figure


def results_table(runs: Sequence[ReportRun]) -> Table:
    """What the runs reach, and what they cost."""
    first = runs[0].metrics
    split = first.get("split", "test")
    columns = _iou_columns(split) if is_segmentation(first) else _accuracy_columns(split)
    validated = "val_instance_iou" if is_segmentation(first) else "val_accuracy"
    if any(run.metrics.get(validated) is not None for run in runs):
        columns["Validation IoU" if is_segmentation(first) else "Validation accuracy"] = (
            lambda metrics: _with_spread(metrics, validated)
        )
    columns |= {
        "Trainable parameters": lambda metrics: count(metrics.get("trainable_parameters")),
        "Stored size": lambda metrics: human_bytes(metrics.get("stored_bytes")),
        "Seconds, one pass" if "adapter" in first else "Seconds per epoch": lambda metrics: seconds(
            metrics.get("seconds_per_epoch", metrics.get("seconds"))
        ),
        "Peak memory": lambda metrics: human_bytes(metrics.get("peak_memory_bytes")),
    }
    rows = [[run.name, *(cell(run.metrics) for cell in columns.values())] for run in runs]
    return Table(["Method", *columns], rows)


def _accuracy_columns(split: str) -> dict[str, Callable[[Metrics], str]]:
    title = "Test accuracy" if split == "test" else f"Accuracy ({split})"
    return {
        title: lambda metrics: _with_spread(metrics, f"{split}_accuracy"),
        "95 % interval": lambda metrics: percent_range(metrics.get(f"{split}_accuracy_interval")),
    }


def _iou_columns(split: str) -> dict[str, Callable[[Metrics], str]]:
    return {
        "IoU over shapes": lambda metrics: _with_spread(metrics, f"{split}_instance_iou"),
        "IoU over categories": lambda metrics: _with_spread(metrics, f"{split}_class_iou"),
        "Accuracy of points": lambda metrics: _with_spread(metrics, f"{split}_accuracy"),
    }


def _with_spread(metrics: Metrics, key: str) -> str:
    return mean_and_spread(metrics.get(key), metrics.get(f"{key}_std"))


def results_notes(runs: Sequence[ReportRun]) -> list[str]:
    """What a reader of the table must know."""
    first, notes = runs[0].metrics, []
    split = first.get("split", "test")
    interval, items = f"{split}_accuracy_interval", f"{split}_items"
    if first.get(interval) is not None:
        notes.append(
            f"The 95 % interval says how sure an accuracy is that was measured on "
            f"{first[items]} shapes: other shapes of the same kind would likely give a number "
            "within it."
        )
    without = first.get("unmeasured_classes", [])
    if without and first.get(items):
        what = "category" if is_segmentation(first) else "class"
        notes.append(f"Not measured, since no shape of the {what} was there: {', '.join(without)}.")
    if is_segmentation(first):
        notes.append(
            "IoU is the share of points that the true and the predicted part have in common, of "
            "all points that either has; over shapes it is the mean of all of them, over "
            "categories the mean of the categories' means."
        )
    return notes


def curves(runs: Sequence[ReportRun]) -> list[Curve]:
    """What is known of every epoch."""
    points = " of points" if is_segmentation(runs[0].metrics) else ""
    drawn = []
    for key, title, form in _CURVES:
        figure = curve(runs, key, form)
        if figure is not None:
            drawn.append(Curve(title + (points if "accuracy" in key else ""), figure))
    return drawn


def kept_epochs(runs: Sequence[ReportRun]) -> str:
    """Which epochs were kept, in words; nothing where it is not known."""
    found = []
    for run in runs:
        for seed, epoch in run.best_epochs.items():
            known_by = [run.name] if len(runs) > 1 else []
            known_by += [seed] if len(run.histories) > 1 else []
            found.append(f"{epoch} ({', '.join(known_by)})" if known_by else f"{epoch}")
    return f"A star marks the epoch that was kept: {', '.join(found)}." if found else ""
