"""Figures and the 3D views of clouds on a page, as Plotly's script reads them.

Colours such as ``var(--ink)`` are those of the page's style sheet, light or dark; its script puts
them in.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pointpeft.formats import percent
from pointpeft.measure.report.run_page import ReportRun

__all__ = [
    "Figure",
    "class_colour",
    "confusion",
    "curve",
    "feature_map",
    "figure",
    "part_cloud",
    "plain",
    "run_colour",
    "shaded_cloud",
]

Figure = dict[str, Any]
"""Data and layout as :func:`json.dumps` takes them."""

_RUNS = ("var(--accent)", "#d1752b", "#8a68b8", "#3f8f4f", "#c2566a", "#9a7a2c")
_CLASSES = (
    "#4269d0", "#e08a1e", "#d6414a", "#4aa6a0", "#3f8f4f", "#d95fa8", "#8a5fc7", "#8c6244",
    "#7a8794", "#3a9bd9", "#a3a01c", "#5d76a8",
)  # fmt: skip
_LONGEST_NAME = 16  # letters beside an axis
_TICKS = 6
_POINT = {"size": 2.4}


def run_colour(place: int) -> str:
    """Of the run at a place of the page."""
    return _RUNS[place % len(_RUNS)]


def class_colour(label: int, classes: int) -> str:
    """Of a class or part: golden-angle steps give neighbours in a long list distant hues."""
    if classes <= len(_CLASSES):
        return _CLASSES[label]
    hue, kind = (label * 137.5) % 360, label % 3
    return f"hsl({hue:.1f},{55 + 15 * kind}%,{(42, 58, 50)[kind]}%)"


def plain(text: str) -> str:
    """Text as Plotly shows it as it is: it reads a little HTML in its texts."""
    return html.escape(text, quote=False)


def curve(runs: Sequence[ReportRun], key: str, form: str) -> Figure | None:
    """A metric by epoch, a line per run and seed, with a star at the epoch that was kept.

    ``key`` is a column of ``metrics.csv`` and ``form`` that of the numbers on the axis, as Plotly
    writes it. None where no run has the metric.
    """
    traces, stars, epochs = [], [], 0
    for place, run in enumerate(runs):
        for seed, rows in run.histories.items():
            values = [row.get(key) for row in rows]
            if not any(value is not None and math.isfinite(value) for value in values):
                continue
            epochs, name = max(epochs, len(rows)), seed if len(runs) == 1 else f"{run.name}, {seed}"
            shown = f"{plain(name)}<br>%{{meta}} %{{x}}: %{{y:{form}}}<extra></extra>"
            common, colour = {"type": "scatter", "hovertemplate": shown}, run_colour(place)
            # What is not measured in every epoch is a line all the same, from point to point.
            measured = [(n, value) for n, value in enumerate(values, 1) if value is not None]
            sparse = len(measured) == 1 or len(measured) < len(rows)
            traces.append(common | {
                "x": [n for n, _ in measured], "y": [value for _, value in measured],
                "meta": "epoch", "mode": "lines+markers" if sparse else "lines",
                "line": {"color": colour, "width": 1.75}, "marker": {"color": colour},
            })  # fmt: skip
            best = run.best_epochs.get(seed)
            if best is not None and 0 < best <= len(values) and values[best - 1] is not None:
                stars.append(common | {
                    "x": [best], "y": [values[best - 1]], "meta": "kept: epoch", "mode": "markers",
                    "marker": {"color": colour, "symbol": "star", "size": 13},
                })  # fmt: skip
    if not traces:
        return None
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500) if epochs / s <= _TICKS), 1000)
    return figure(
        [*traces, *stars],
        xaxis={"title": {"text": "epoch", "standoff": 6}, "showgrid": False, "dtick": step,
               "tick0": 0},
        yaxis={"tickformat": form, "rangemode": "tozero"},
    )  # fmt: skip


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """True classes by row, predicted ones by column; the shade is the share of the row."""
    table = np.array(counts)
    totals = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    hover = [
        [
            f"true {plain(true)}<br>predicted {plain(found)}<br>{table[i, j]} of {totals[i, 0]} "
            f"({percent(shares[i, j])})"
            for j, found in enumerate(names)
        ]
        for i, true in enumerate(names)
    ]
    places = list(range(len(names)))
    axis = {"tickvals": places, "ticktext": [plain(_short(name)) for name in names],
            "showgrid": False, "automargin": True}  # fmt: skip
    heatmap = {
        "type": "heatmap", "x": places, "y": places, "z": shares.tolist(), "zmin": 0, "zmax": 1,
        "xgap": 1, "ygap": 1, "showscale": False, "hovertext": hover, "hoverinfo": "text",
        "colorscale": [[0, "var(--tint)"], [1, "var(--accent)"]], "texttemplate": "%{text}",
        "text": [[str(value) if value else "" for value in row] for row in table.tolist()],
    }  # fmt: skip
    return figure(
        [heatmap],
        margin={"l": 10, "r": 4, "t": 4, "b": 10},
        xaxis={**axis, "tickangle": -50, "range": [-0.5, len(names) - 0.5]},
        yaxis={**axis, "range": [len(names) - 0.5, -0.5]},
    )


def feature_map(content: dict[str, Any], key: str, names: Sequence[str]) -> Figure:
    """Places of shapes "before" or "after", a trace per class and split, its ``meta`` the class.

    ``content`` is the ``map`` of :func:`pointpeft.measure.analysis.analyse`.
    """
    places, labels = np.array(content[key]), np.array(content["labels"])
    held_out = np.array(content["held_out"])
    traces = []
    for held, symbol, size, opacity in ((False, "circle", 6, 0.55), (True, "diamond", 9, 1)):
        for label in np.unique(labels).tolist():
            of = np.flatnonzero((labels == label) & (held_out == held)).tolist()
            if not of:
                continue
            texts = [f"{plain(content['ids'][i])}<br>{plain(names[label])}" for i in of]
            traces.append({
                "type": "scatter", "x": places[of, 0].tolist(), "y": places[of, 1].tolist(),
                "mode": "markers", "meta": label, "text": texts, "hoverinfo": "text",
                "opacity": opacity,
                "marker": {"color": class_colour(label, len(names)), "symbol": symbol, "size": size,
                           "line": {"color": "var(--paper)", "width": int(held)}},
            })  # fmt: skip
    x, y = (_padded_range(places[:, axis]) for axis in (0, 1))  # hiding a class moves nothing
    return figure(
        traces,
        margin=dict.fromkeys("lrtb", 6),
        hovermode="closest",
        xaxis={"visible": False, "range": x},
        yaxis={"visible": False, "range": y, "scaleanchor": "x"},
    )


def shaded_cloud(cloud: Sequence[float], kind: str) -> Figure:
    """Points ``(x, y, z, x, ...)`` in the shades "own" or "near", the higher the darker."""
    shades = [[0, f"var(--{kind}-low)"], [1, f"var(--{kind}-high)"]]
    points = np.reshape(cloud, (-1, 3))
    return _cloud([(points, {"color": points[:, 1].tolist(), "colorscale": shades})])


def part_cloud(cloud: Sequence[float], labels: Sequence[int], parts: Sequence[int]) -> Figure:
    """Points ``(x, y, z, x, ...)`` by their part, in the same colours for all of a category."""
    points, of = np.reshape(cloud, (-1, 3)), np.array(labels)
    return _cloud(
        [
            (points[of == part], {"color": class_colour(place, len(parts))})
            for place, part in enumerate(parts)
            if (of == part).any()
        ]
    )


def _cloud(groups: Sequence[tuple[np.ndarray, dict[str, Any]]]) -> Figure:
    """Points with their markers, and the range of all axes; the script adds size and camera."""
    data = [
        dict(zip("xyz", points.T.tolist(), strict=True))
        | {"type": "scatter3d", "mode": "markers", "hoverinfo": "skip", "marker": marker | _POINT}
        for points, marker in groups
    ]
    reach = max(float(np.abs(points).max()) for points, _ in groups)
    return {"data": data, "reach": 1.02 * reach or 1.0}


def figure(
    traces: Sequence[Figure], xaxis: dict[str, Any], yaxis: dict[str, Any], **layout: Any
) -> Figure:
    """Traces on two axes in the style of the page; ``layout`` wins over that."""
    axis = {"zeroline": False, "gridcolor": "var(--line)", "linecolor": "var(--line)",
            "fixedrange": True}  # fmt: skip
    common = {
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--soft)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 44, "r": 10, "t": 8, "b": 36},
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--line)",
                       "font": {"color": "var(--ink)"}},
        "showlegend": False,
    }  # fmt: skip
    axes = {"xaxis": axis | xaxis, "yaxis": axis | yaxis}
    return {"data": traces, "layout": common | axes | layout}


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _padded_range(values: np.ndarray) -> list[float]:
    low, high = float(values.min()), float(values.max())
    space = 0.06 * (high - low) or 1.0
    return [low - space, high + space]
