"""What the verbs around an adapter do and show when it labels parts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli.console import counted, out, percent, show_table, tell, warn, warn_of_files

if TYPE_CHECKING:
    from pointpeft.measure import PartPrediction

__all__ = ["predict_parts", "show_scores"]


def show_scores(metrics: dict[str, Any], split: str = "test") -> None:
    """Print the IoU of every category, and over all shapes."""
    iou = metrics[f"{split}_instance_iou"]
    if iou is None:
        tell(f"{split} IoU: not measured, there is no {split} split")
        return
    if categories := metrics.get(f"{split}_category_iou"):  # of several seeds there is none
        table = Table("category", "items", "mean IoU")
        for items, (name, value) in zip(metrics["class_items"], categories.items(), strict=True):
            table.add_row(escape(name), str(items), percent(value) if items else "not measured")
        show_table(table)
    out.print(
        f"[bold]{split} IoU over shapes: {percent(iou)}[/]{_spread(metrics, split)}, over "
        f"categories {percent(metrics[f'{split}_class_iou'])}, accuracy of points "
        f"{percent(metrics[f'{split}_accuracy'])} ({counted(metrics[f'{split}_items'], 'shape')}, "
        f"{counted(len(metrics['class_names']), 'category', 'categories')}, "
        f"{counted(len(metrics['part_names']), 'part')})",
        highlight=False,
        soft_wrap=True,
    )


def _spread(metrics: dict[str, Any], split: str) -> str:
    key = f"{split}_instance_iou"
    if f"{key}_std" not in metrics:
        return ""
    each = ", ".join(percent(value) for value in metrics[f"{key}_per_seed"])
    return f" +- {percent(metrics[f'{key}_std'])} over seeds ({each})"


def predict_parts(
    files: list[Path],
    adapter: Path,
    output: Path,
    category: str | None,
    as_json: bool,
    checkpoint: str | None,
    up_axis: str | None,
    device: str,
) -> None:
    """Label the points of each file, write them, and print the share of each part."""
    from pointpeft.measure.part_predictor import PartPredictor, write_predictions
    from pointpeft.measure.predictor import list_shape_files

    names = list_shape_files(files)
    predictor = PartPredictor(adapter, checkpoint, up_axis, device)
    for note in predictor.notes:
        warn(note, label="note")
    category = predictor.choose_category(category)
    predictions = [predictor.predict_file(name, category) for name in names]
    written = write_predictions(predictions, predictor.part_names, output)
    if as_json:
        found = [_as_json(*pair) for pair in zip(predictions, written, strict=True)]
        print(json.dumps(found, indent=2))
    else:
        _show_predictions(predictions, written)
    if any(one.error for one in predictions):
        raise typer.Exit(1)


def _as_json(prediction: "PartPrediction", written: Path | None) -> dict[str, Any]:
    return {
        "file": prediction.file,
        "category": prediction.category,
        "parts": [{"part": name, "share": share} for name, share in prediction.shares],
        "points": len(prediction.points),
        "output": None if written is None else str(written),
        "warnings": list(prediction.warnings),
        "error": prediction.error,
    }


def _show_predictions(predictions: list["PartPrediction"], written: list[Path | None]) -> None:
    table = Table("file", "part", "share of points", "written to")
    for one, path in zip(predictions, written, strict=True):
        for row, (name, share) in enumerate(one.shares):
            ends = (one.file, str(path)) if row == 0 else ("", "")
            table.add_row(*(escape(cell) for cell in (ends[0], name, percent(share), ends[1])))
        table.add_section()
    if table.row_count:
        show_table(table)
    warn_of_files(predictions)
