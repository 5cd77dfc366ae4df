"""What a report says of one run, read from its folder, and the sentence that sums it up."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointpeft.errors import DataError
from pointpeft.formats import (
    counted,
    display_name,
    mean_and_spread,
    percent,
    percent_range,
    within_sentence,
)

__all__ = [
    "ANALYSIS",
    "ReportRun",
    "data_name",
    "is_segmentation",
    "read_history",
    "read_run",
    "summary",
    "with_spread",
]

ANALYSIS = "analysis.json"
"""Name of the file, in a run folder, of what the page shows beside the metrics."""


@dataclass(frozen=True)
class ReportRun:
    """A run, or the measurement of an adapter.

    Attributes:
        name: how tables and headings call it: the method as people write it.
        metrics: content of ``metrics.json``.
        histories: rows of ``metrics.csv`` by the seed's label; empty if nothing was trained.
        analysis: from :func:`pointpeft.measure.analysis.analyse`, if it was made.
        config: text of ``config.yaml``, if there is one.
        best_epochs: number of the epoch that was kept, from 1, by the seed's label.
    """

    name: str
    metrics: dict[str, Any]
    histories: dict[str, list[dict[str, float | None]]] = field(default_factory=dict)
    analysis: dict[str, Any] | None = None
    config: str | None = None
    best_epochs: dict[str, int] = field(default_factory=dict)


def read_run(folder: str | Path) -> ReportRun:
    """What there is in a run folder, or in the output folder of an evaluation.

    Raises:
        FileNotFoundError: it holds no ``metrics.json``.
    """
    folder = Path(folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    method = metrics.get("method")
    seeds = {f"seed {seed}": folder / f"seed{seed}" for seed in metrics.get("seeds", ())}
    histories, best_epochs = {}, {}
    for label, place in (seeds or {f"seed {metrics.get('seed')}": folder}).items():
        if (table := place / "metrics.csv").is_file():
            histories[label] = read_history(table)
        own = json.loads(_text(place / "metrics.json") or "{}")
        if own.get("best_epoch") is not None:
            best_epochs[label] = int(own["best_epoch"])
    analysis = _text(folder / ANALYSIS)
    return ReportRun(
        name=display_name(method) if method else folder.resolve().name,
        metrics=metrics,
        histories=histories,
        analysis=json.loads(analysis) if analysis else None,
        config=_text(folder / "config.yaml"),
        best_epochs=best_epochs,
    )


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def is_segmentation(metrics: dict[str, Any]) -> bool:
    """Whether parts were found, not classes."""
    return metrics.get("task") == "part_segmentation"


def read_history(file: Path) -> list[dict[str, float | None]]:
    """Rows of a ``metrics.csv``; None where an epoch has no such value.

    Raises:
        DataError: it is damaged.
    """
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            names, *rows = [row for row in csv.reader(opened) if row] or [[]]
        if not names or any(len(row) != len(names) for row in rows):
            raise ValueError("a header and a cell for each of its names are expected")
        return [
            {name: float(cell) if cell else None for name, cell in zip(names, row, strict=True)}
            for row in rows
        ]
    except (ValueError, csv.Error) as error:  # of text that is not UTF-8, too
        raise DataError(f"{file} is damaged: {error}") from error


def summary(runs: Sequence[ReportRun]) -> str:
    """Method, model, data, accuracy and selection, in words."""
    first = runs[0].metrics
    if "adapter" in first:
        return _measured(runs[0])
    model, data = first.get("model", "The model"), data_name(first)
    if len(runs) == 1:
        text = f"{model}, adapted to {data} by {_way(runs[0])}, {_result(first)}"
    else:
        each = [f"{with_spread(run.metrics, 'test_accuracy')} ({_way(run)})" for run in runs]
        of = f"{first['test_items']} test shapes" if first.get("test_items") else "the test shapes"
        text = (
            f"{model}, adapted to {data} in {len(runs)} ways, recognises "
            f"{', '.join(each[:-1])} and {each[-1]} of {of}"
        )
    if len(first.get("seeds", ())) > 1:
        text += f", mean ± standard deviation of {len(first['seeds'])} seeds"
    trained = [run.metrics for run in runs if run.metrics.get("epochs") != 0]
    return text + _selection(trained[0] if trained else first)


def with_spread(metrics: dict[str, Any], key: str) -> str:
    """A share by its key, with its standard deviation over seeds."""
    return mean_and_spread(metrics.get(key), metrics.get(f"{key}_std"))


def data_name(metrics: dict[str, Any]) -> str:
    """What people call the data: a benchmark data set by its title, else the folder or file."""
    source = metrics.get("data")
    return metrics.get("data_title") or (Path(source).name or source if source else "the data")


def _way(run: ReportRun) -> str:
    return within_sentence(run.name)


def _measured(run: ReportRun) -> str:
    metrics = run.metrics
    split, data = metrics["split"], data_name(metrics)
    of = f"all shapes of {data}" if split == "all" else f"the {split} shapes of {data}"
    counted = f"({metrics[f'{split}_items']} shapes of {_classes(metrics)})"
    return (
        f"{metrics.get('model', 'The model')}, adapted by {_way(run)}, "
        f"{_reached(metrics, split, f'{of} {counted}')}, measured by the "
        f"{metrics.get('protocol', 'honest')} protocol."
    )


def _result(metrics: dict[str, Any]) -> str:
    headline = "instance_iou" if is_segmentation(metrics) else "accuracy"
    if metrics.get(f"test_{headline}") is not None:
        of = f"{metrics['test_items']} test shapes of {_classes(metrics)}"
        return _reached(metrics, "test", of)
    if metrics.get(f"val_{headline}") is not None:
        return _reached(metrics, "val", "the validation shapes (there is no test split)")
    return "was not measured: there is neither a test nor a validation split"


def _reached(metrics: dict[str, Any], split: str, of: str) -> str:
    """How well the shapes are classified or segmented that ``of`` names."""
    if is_segmentation(metrics):
        by_category = metrics.get(f"{split}_class_iou")
        categories = "" if by_category is None else f" and {percent(by_category)} over categories"
        iou = with_spread(metrics, f"{split}_instance_iou")
        return f"finds the parts of {of} with a mean IoU of {iou} over shapes{categories}"
    interval = metrics.get(f"{split}_accuracy_interval")
    sure = "" if interval is None else f" (95 % interval {percent_range(interval)})"
    return f"recognises {with_spread(metrics, f'{split}_accuracy')} of {of}{sure}"


def _classes(metrics: dict[str, Any]) -> str:
    """How many there are, and how many of them were measured if that is not all."""
    number, without = len(metrics["class_names"]), len(metrics.get("unmeasured_classes", ()))
    kinds = ("category", "categories") if is_segmentation(metrics) else ("class", "classes")
    of_all = counted(number, *kinds)
    return f"{number - without} of {of_all}" if without else of_all


def _selection(metrics: dict[str, Any]) -> str:
    chosen = metrics.get("selection", "")
    if metrics.get("epochs") == 0:  # a rule was fitted
        return "."
    if chosen == "validation split":
        return "; the epoch to keep was chosen on the validation split alone."
    if metrics.get("protocol", "honest") != "honest" or chosen.startswith("test split"):
        return (
            "; the epoch to keep was chosen on the test split itself, as the papers' code does, "
            "which makes this too high."
        )
    return f"; kept was the {chosen}." if chosen else "."
