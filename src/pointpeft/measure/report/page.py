"""The report: one page with a table, learning curves, and what each run got right and wrong."""

import json
import math
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pointpeft.files import replacing
from pointpeft.formats import (
    count,
    human_bytes,
    mean_and_spread,
    percent_range,
    seconds,
)
from pointpeft.measure.report.figures import Figure, curve, run_colour
from pointpeft.measure.report.run_page import (
    ANALYSIS,
    ReportRun,
    data_name,
    is_segmentation,
    read_run,
    summary,
)
from pointpeft.measure.report.test_page import describe_classes, describe_parts

__all__ = [
    "REPORT",
    "Curve",
    "Table",
    "curves",
    "kept_epochs",
    "results_notes",
    "results_table",
    "write_report",
    "write_run_report",
]

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
    _write(folder / ANALYSIS, _json(analysis))
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
    from jinja2 import Environment  # slow to import, as is Plotly, and only reports need them
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["script_json"] = _script_json
    page = environment.from_string(_part("template.html")).render(
        title=title,
        warning=warning,
        summary=summary(runs),
        results=results_table(runs),
        notes=results_notes(runs),
        curves=curves(runs),
        kept=kept_epochs(runs),
        runs=[(run.name, run_colour(place)) for place, run in enumerate(runs)],
        shown=next((i for i, r in enumerate(runs) if r.metrics["method"] == _SHOWN_FIRST), 0),
        details=[_details(run) for run in runs],
        settings=_settings(runs),
        style=_part("report.css"),
        script=_part("report.js"),
        library=get_plotlyjs(),
    )
    _write(Path(path), page)
    return Path(path)


def _details(run: ReportRun) -> dict[str, Any]:
    """What the template calls ``classes`` or ``parts``."""
    if is_segmentation(run.metrics):
        return {"parts": describe_parts(run)}
    return {"classes": describe_classes(run)}


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


def _part(name: str) -> str:
    return files("pointpeft.measure.report").joinpath(name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _script_json(value: Any) -> Any:
    """JSON within an element of the page; no text in it can end the element."""
    from markupsafe import Markup

    return Markup(_json(value).replace("<", "\\u003c"))


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Without the numbers that JSON does not know: a browser refuses to read them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
