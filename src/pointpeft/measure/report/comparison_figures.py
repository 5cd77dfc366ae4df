"""Figures of a comparison: accuracy against what it costs, and against the number of shapes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pointpeft.formats import count, mean_and_spread
from pointpeft.measure.report.figures import Figure, figure, plain, run_colour

__all__ = ["accuracy_against", "accuracy_by_shots"]

Row = Mapping[str, Any]

_PERCENT = ".0~%"
_MARGIN = {"l": 48, "r": 12, "t": 20, "b": 52}


def accuracy_against(rows: Sequence[Row], key: str, title: str) -> Figure | None:
    """Test accuracy against a cost, on a logarithmic axis; a point for each row.

    A cost of zero, which such an axis does not have, stands left of all others. None where no row
    has the cost.

    Args:
        rows: of one table; each model has a colour.
        key: of the cost.
        title: of the axis.
    """
    known = [row for row in rows if row[key] is not None]
    positive = [row[key] for row in known if row[key] > 0]
    if not positive:
        return None
    models = list(dict.fromkeys(row["model"] for row in rows))
    traces = [
        {
            "type": "scatter", "mode": "markers+text", "textposition": "top right",
            "x": [row[key] or min(positive) / 3 for row in of], "y": _accuracies(of),
            "error_y": _spread(of), "text": [plain(row["method"]) for row in of],
            "hovertext": [_hover(row, key, title) for row in of], "hoverinfo": "text",
            "marker": {"color": run_colour(place), "size": 9},
        }
        for place, model in enumerate(models)
        if (of := [row for row in known if row["model"] == model])
    ]  # fmt: skip
    low, high = math.log10(min(positive) / 3), math.log10(max(positive))
    space = 0.1 * (high - low) + 0.1  # and twice as much for names at the right end
    return figure(
        traces,
        xaxis={"type": "log", "title": {"text": title, "standoff": 6}, "showgrid": False,
               "range": [low - space, high + 2 * space], "dtick": 1},
        yaxis={"tickformat": _PERCENT},
        hovermode="closest",
        margin=_MARGIN,
    )  # fmt: skip


def accuracy_by_shots(rows: Sequence[Row]) -> Figure | None:
    """Test accuracy by the training shapes of each class; a line for each method on each model.

    None where there is one number of shapes alone. ``rows`` are of one data set.
    """
    shots = sorted({row["shots"] for row in rows}, key=lambda n: math.inf if n is None else n)
    if len(shots) < 2:
        return None
    places = {number: place for place, number in enumerate(shots)}
    models = {row["model"] for row in rows}
    lines: dict[str, list[Row]] = {}
    for row in rows:
        name = row["method"] if len(models) == 1 else f"{row['method']}, {row['model']}"
        lines.setdefault(name, []).append(row)
    traces = []
    for place, (name, of) in enumerate(lines.items()):
        of = sorted(of, key=lambda row: places[row["shots"]])
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": plain(name),
            "x": [places[row["shots"]] for row in of], "y": _accuracies(of), "error_y": _spread(of),
            "hovertext": [_hover(row, "train_items", "training shapes") for row in of],
            "hoverinfo": "text", "line": {"color": run_colour(place), "width": 1.75},
            "marker": {"color": run_colour(place)},
        })  # fmt: skip
    texts = ["all" if number is None else str(number) for number in shots]
    return figure(
        traces,
        xaxis={"title": {"text": "training shapes of each class", "standoff": 6},
               "showgrid": False, "tickvals": list(places.values()), "ticktext": texts},
        yaxis={"tickformat": _PERCENT},
        showlegend=True,
        margin=_MARGIN,
    )  # fmt: skip


def _accuracies(rows: Sequence[Row]) -> list[float]:
    return [row["test_score"] for row in rows]


def _spread(rows: Sequence[Row]) -> dict[str, Any]:
    """Bars of one standard deviation over seeds; none for a single seed."""
    values = [row["test_score_std"] or 0.0 for row in rows]
    return {"type": "data", "array": values, "visible": any(values), "thickness": 1, "width": 3}


def _hover(row: Row, key: str, title: str) -> str:
    accuracy = mean_and_spread(row["test_score"], row["test_score_std"])
    value = count(row[key]) if isinstance(row[key], int) else f"{row[key]:.3g}"
    return f"{plain(row['method'])} on {plain(row['model'])}<br>{accuracy}<br>{title}: {value}"
