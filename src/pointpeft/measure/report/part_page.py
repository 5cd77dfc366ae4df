"""The part of a page that tells of one part segmenter: IoU by part, and shapes."""

from typing import Any, NamedTuple

from pointpeft.formats import percent
from pointpeft.measure.report.figures import class_colour, part_cloud
from pointpeft.measure.report.gallery import Gallery, Panel, Scene
from pointpeft.measure.report.run_page import ReportRun

__all__ = ["Parts", "describe_parts"]


class Parts(NamedTuple):
    """What a page says of one part segmenter.

    Attributes:
        note: on the table.
        categories: each with its name, number of shapes, IoU, and the same of its parts.
        galleries: the worst shapes, and some at random.
    """

    note: str
    categories: list[dict[str, Any]]
    galleries: list[Gallery]


def describe_parts(run: ReportRun) -> Parts:
    """All that is known of a part segmenter."""
    analysis = run.analysis or {}
    if not analysis.get("items"):
        return Parts("No shape was measured.", [], [])
    seeds, part = len(run.metrics.get("seeds", ())), analysis["part"]
    of = "all" if part == "all" else f"the {part}"
    note = (
        f"Measured: {of} shapes, {analysis['items']} of them. The IoU of a part is the mean over "
        "the shapes in which it occurs or is predicted; in the IoU of a shape, and so of its "
        "category, a part that is rightly absent counts as found."
    )
    if seeds > 1:
        note += f" The best of {seeds} seeds, here and below."
    kinds = {
        "worst": ("The worst shapes", "Those of the lowest IoU, the worst first."),
        "random": ("Shapes drawn at random", "Drawn from all that were measured."),
    }
    galleries = [_gallery(analysis, kind, *words) for kind, words in kinds.items()]
    return Parts(note, _categories(analysis), galleries)


def _row(name: str, iou: float | None, items: int) -> dict[str, Any]:
    return {"name": name, "iou": iou, "shown": percent(iou) if iou is not None else "not measured",
            "items": items}  # fmt: skip


def _categories(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for (category, iou), items in zip(
        analysis["category_iou"].items(), analysis["category_items"], strict=True
    ):
        known = analysis["part_items"][category]
        parts = [_row(n, value, known[n]) for n, value in analysis["part_iou"][category].items()]
        rows.append(_row(category, iou, items) | {"parts": parts})
    return rows


def _gallery(analysis: dict[str, Any], kind: str, title: str, note: str) -> Gallery:
    scenes, clouds = [], {}
    for place, shape in enumerate(analysis[kind]):
        category, names = shape["category"], analysis["names"]
        numbers = analysis["categories"][category]
        panels = []
        for which, caption in (("true", "True parts"), ("predicted", "Predicted parts")):
            clouds[f"{which}{place}"] = part_cloud(shape["cloud"], shape[which], numbers)
            panels.append(Panel(caption, (), f"{which}{place}"))
        key = [
            (f"{names[number]} {percent(shape['parts'][names[number]])}",
             class_colour(i, len(numbers)))
            for i, number in enumerate(numbers)
        ]  # fmt: skip
        scenes.append(
            Scene(
                f"{category}, IoU {percent(shape['iou'])} ({shape['id']})",
                (("", category), (" with an IoU of ", percent(shape["iou"])),
                 (f": {shape['id']}", "")),
                panels,
                key,
            )
        )  # fmt: skip
    return Gallery(title, note, scenes, clouds)
