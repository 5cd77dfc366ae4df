"""A report in one sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointpeft.evaluation.report.runs import ReportRun
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
        each = [f"{_accuracy(run.metrics)} ({_way(run)})" for run in runs]
        of = f"{first['test_items']} test shapes" if first.get("test_items") else "the test shapes"
        text = (
            f"{model}, adapted to {data} in {ways} ways, recognises {', '.join(each[:-1])} and "
            f"{each[-1]} of {of}"
        )
    return text + _spread(first) + _selection(first)


def data_name(metrics: dict[str, Any]) -> str:
    """What people call the data: a published data set by its title, else the folder or file."""
    source = metrics.get("data")
    return metrics.get("data_title") or (Path(source).name or source if source else "the data")


def _way(run: ReportRun) -> str:
    return within_sentence(run.name)


def _measured(run: ReportRun) -> str:
    metrics = run.metrics
    split = metrics["split"]
    of = "all" if split == "all" else f"the {split}"
    return (
        f"{metrics.get('model', 'The model')}, adapted by {_way(run)}, recognises "
        f"{_accuracy(metrics)} of {of} shapes of {data_name(metrics)} "
        f"({metrics[f'{split}_items']} shapes of {len(metrics['class_names'])} classes), measured "
        f"by the {metrics.get('protocol', 'honest')} protocol."
    )


def _result(metrics: dict[str, Any]) -> str:
    if metrics.get("test_accuracy") is not None:
        items, classes = metrics["test_items"], len(metrics["class_names"])
        return f"recognises {_accuracy(metrics)} of {items} test shapes of {classes} classes"
    if metrics.get("val_accuracy") is not None:
        return (
            f"recognises {_percent(metrics['val_accuracy'])} of the validation shapes (there is no "
            "test split)"
        )
    return "was not measured: there is neither a test nor a validation split"


def _accuracy(metrics: dict[str, Any]) -> str:
    split = metrics.get("split", "test")
    value = metrics.get(f"{split}_accuracy")
    if value is None:
        return "an unknown share"
    deviation = metrics.get(f"{split}_accuracy_std")
    return _percent(value) if deviation is None else f"{100 * value:.1f} ± {_percent(deviation)}"


def _spread(metrics: dict[str, Any]) -> str:
    seeds = len(metrics.get("seeds", ()))
    return f", mean ± standard deviation of {seeds} seeds" if seeds > 1 else ""


def _selection(metrics: dict[str, Any]) -> str:
    chosen = metrics.get("selection", "")
    if chosen == "validation split":
        return "; the epoch to keep was chosen on the validation split alone."
    if metrics.get("protocol") == "published" or chosen.startswith("test split"):
        return (
            "; by the published protocol the epoch to keep was chosen on the test split itself, "
            "which makes this too high."
        )
    return f"; kept was the {chosen}." if chosen else "."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
