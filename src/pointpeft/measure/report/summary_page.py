"""A report in one sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointpeft.formats import mean_and_spread, percent, percent_range
from pointpeft.measure.report.run_page import ReportRun, is_segmentation
from pointpeft.method_names import within_sentence

__all__ = ["data_name", "summary"]

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def summary(runs: Sequence[ReportRun]) -> str:
    """Method, model, data, accuracy and selection, in words."""
    first = runs[0].metrics
    if "adapter" in first:
        return _measured(runs[0])
    model, data = first.get("model", "The model"), data_name(first)
    if len(runs) == 1:
        text = f"{model}, adapted to {data} by {_way(runs[0])}, {_result(first)}"
    else:
        ways = _NUMBERS[len(runs)] if len(runs) < len(_NUMBERS) else str(len(runs))
        each = [f"{_with_spread(run.metrics, 'test_accuracy')} ({_way(run)})" for run in runs]
        of = f"{first['test_items']} test shapes" if first.get("test_items") else "the test shapes"
        text = (
            f"{model}, adapted to {data} in {ways} ways, recognises {', '.join(each[:-1])} and "
            f"{each[-1]} of {of}"
        )
    return text + _spread(first) + _selection(first)


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
        iou = _with_spread(metrics, f"{split}_instance_iou")
        return f"finds the parts of {of} with a mean IoU of {iou} over shapes{categories}"
    interval = metrics.get(f"{split}_accuracy_interval")
    sure = "" if interval is None else f" (95 % interval {percent_range(interval)})"
    return f"recognises {_with_spread(metrics, f'{split}_accuracy')} of {of}{sure}"


def _classes(metrics: dict[str, Any]) -> str:
    """How many there are, and how many of them were measured if that is not all."""
    number, without = len(metrics["class_names"]), len(metrics.get("unmeasured_classes", ()))
    one, several = ("category", "categories") if is_segmentation(metrics) else ("class", "classes")
    of_all = f"{number} {one if number == 1 else several}"
    return f"{number - without} of {of_all}" if without else of_all


def _with_spread(metrics: dict[str, Any], key: str) -> str:
    if metrics.get(key) is None:
        return "an unknown share"
    return mean_and_spread(metrics[key], metrics.get(f"{key}_std"))


def _spread(metrics: dict[str, Any]) -> str:
    seeds = len(metrics.get("seeds", ()))
    return f", mean ± standard deviation of {seeds} seeds" if seeds > 1 else ""


def _selection(metrics: dict[str, Any]) -> str:
    chosen = metrics.get("selection", "")
    if chosen == "validation split":
        return "; the epoch to keep was chosen on the validation split alone."
    if metrics.get("protocol", "honest") != "honest" or chosen.startswith("test split"):
        return (
            "; the epoch to keep was chosen on the test split itself, as the papers' code does, "
            "which makes this too high."
        )
    return f"; kept was the {chosen}." if chosen else "."
