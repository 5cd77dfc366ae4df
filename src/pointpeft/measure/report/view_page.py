"""One page about what pre-training sees of a cloud, to be opened in a browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.measure.pretraining_panels import KINDS, Panel
from pointpeft.measure.pretraining_view import PretrainingView, View
from pointpeft.measure.report.figures import (
    Figure,
    class_colour,
    figure,
    part_cloud,
    shaded_cloud,
)
from pointpeft.measure.report.rendering import write_page

__all__ = ["write_view_page"]

_LEVELS = 255
_PARTS = range(len(KINDS))


def write_view_page(
    path: str | Path, title: str, summary: str, view: PretrainingView, teacher: str = ""
) -> Path:
    """Write the page, which needs no other file and no network.

    Args:
        path: the page.
        title: its heading.
        summary: the sentence below it.
        view: what to show.
        teacher: what the image encoder is called.
    """
    highest = max((float(each.saliency.max()) for each in view.views), default=0.0)
    lowest = min((float(each.saliency.min()) for each in view.views), default=0.0)
    note = (
        f"Images as {teacher} gets them, and where it looks: the darker, the more. Saliency is "
        f"between {lowest:.3g} and {highest:.3g} over all views."
    )
    return write_page(
        path,
        "view.html",
        title=title,
        summary=summary,
        views=[(_image(each), _saliency(each, lowest, highest)) for each in view.views],
        views_note=note,
        clouds=_gallery(view.panels),
        notes=view.notes,
    )


def _image(view: View) -> Figure:
    values = (view.image.clamp(0, 1) * _LEVELS).round().int()
    return _heatmap(values.tolist(), (0, _LEVELS), ("rgb(0,0,0)", "rgb(255,255,255)"))


def _saliency(view: View, lowest: float, highest: float) -> Figure:
    values = [[float(f"{value:.4g}") for value in row] for row in view.saliency.tolist()]
    return _heatmap(values, (lowest, highest), ("var(--tint)", "var(--accent)"), "z")


def _heatmap(
    rows: list[Any], ends: tuple[float, float], colours: tuple[str, str], hover: str = "skip"
) -> Figure:
    """A picture of square pixels, its first row on top."""
    trace = {
        "type": "heatmap", "z": rows, "zmin": ends[0], "zmax": ends[1], "showscale": False,
        "hoverinfo": hover, "colorscale": [[0, colours[0]], [1, colours[1]]],
    }  # fmt: skip
    return figure(
        [trace],
        margin=dict.fromkeys("lrtb", 2),
        xaxis={"visible": False, "scaleanchor": "y", "constrain": "domain"},
        yaxis={"visible": False, "autorange": "reversed", "constrain": "domain"},
    )


def _gallery(panels: Sequence[Panel]) -> dict[str, Any]:
    """All panels as one scene, so that they turn together."""
    used = sorted({kind for each in panels if each.kinds is not None for kind in _places(each)})
    scene = {
        "name": "all",
        "words": (),
        "key": [(KINDS[kind], class_colour(kind, len(KINDS))) for kind in used],
        "panels": [(each.title, (each.line,), str(n)) for n, each in enumerate(panels)],
    }
    return {
        "title": "What the network is shown, and what it rebuilds",
        "note": "",
        "scenes": [scene],
        "clouds": {str(n): _cloud(each) for n, each in enumerate(panels)},
    }


def _cloud(panel: Panel) -> Figure:
    points = _rounded(panel.points)
    if panel.kinds is None:
        return shaded_cloud(points, "own")
    return part_cloud(points, panel.kinds.tolist(), _PARTS)


def _places(panel: Panel) -> list[int]:
    return [] if panel.kinds is None else panel.kinds.unique().tolist()


def _rounded(points: Tensor) -> list[float]:
    return [round(value, 4) for value in points.flatten().tolist()]
