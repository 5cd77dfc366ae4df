"""What a report shows of the test shapes of a run: their classes, or their parts.

Functions return dictionaries that name what the template reads. A gallery has scenes, of shapes
seen at the same time: ``words`` are pairs of plain text and text to stress, ``panels`` title, lines
and cloud of each shape, ``key`` names and colours of the parts.
"""

from collections.abc import Sequence
from typing import Any

from pointpeft.formats import count, percent, percent_range
from pointpeft.measure.report.figures import (
    class_colour,
    confusion,
    feature_map,
    part_cloud,
    shaded_cloud,
)
from pointpeft.measure.report.run_page import ReportRun
from pointpeft.measure.scores import wilson_interval

__all__ = ["describe_classes", "describe_parts"]

_MOST_CONFUSIONS = 8


def describe_classes(run: ReportRun) -> dict[str, Any]:
    """All that is known of a classifier; parts of it are None where that is not known."""
    analysis, metrics = run.analysis or {}, run.metrics
    counts = (
        analysis.get("confusion") or metrics.get("best_confusion") or metrics.get("confusion") or []
    )
    names = metrics["class_names"]
    measured = any(any(row) for row in counts)
    return {
        "note": _note(run) if measured else "No shape was measured.",
        "matrix": confusion(counts, names) if measured else None,
        "confusions": _confusions(counts, names),
        "classes": _classes(counts, names) if measured else [],
        "map": _map(run),
        "mistakes": _mistakes(analysis) if analysis.get("items") else None,
    }


def _part(run: ReportRun) -> str:
    part: str = (run.analysis or {}).get("part") or run.metrics.get("split", "test")
    return part


def _note(run: ReportRun) -> str:
    part, seeds, notes = _part(run), len(run.metrics.get("seeds", ())), []
    if part == "validation":
        notes.append(
            "There is no test split: these are the shapes of the validation split, on which the "
            "model was chosen too."
        )
    elif part != "test":
        notes.append(f"Measured: {'all shapes' if part == 'all' else f'the {part} split'}.")
    if seeds > 1:
        by = "test" if str(run.metrics.get("selection")).startswith("test") else "validation"
        measure = str(run.metrics.get("ranked_by", "val_accuracy")).split("_", 1)[1]
        measure = {"instance_iou": "mean IoU of shapes"}.get(measure, measure.replace("_", " "))
        notes.append(f"The best of {seeds} seeds by {by} {measure}, here and below.")
    return " ".join(notes)


def _confusions(counts: list[list[int]], names: list[str]) -> list[tuple[str, str, str]]:
    """The most frequent ones, first the most frequent: true class, predicted one, how many."""
    pairs = [
        (number, i, j)
        for i, row in enumerate(counts)
        for j, number in enumerate(row)
        if number and i != j
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return [
        (names[i], names[j], f"{number} of {sum(counts[i])}")
        for number, i, j in pairs[:_MOST_CONFUSIONS]
    ]


def _classes(counts: list[list[int]], names: list[str]) -> list[dict[str, Any]]:
    """Accuracy by class, the worst first; classes without a shape come last."""
    rows = []
    for label, name in enumerate(names):
        items = sum(counts[label])
        accuracy = counts[label][label] / items if items else None
        interval = percent_range(None if accuracy is None else wilson_interval(accuracy, items))
        rows.append(_row(name, accuracy, items) | {"interval": interval})
    return sorted(rows, key=lambda row: 2.0 if row["share"] is None else row["share"])


def _row(name: str, share: float | None, items: int) -> dict[str, Any]:
    """A class, category or part with its accuracy or IoU."""
    shown = "not measured" if share is None else percent(share)
    return {"name": name, "share": share, "shown": shown, "items": items}


def _map(run: ReportRun) -> dict[str, Any] | None:
    """Features as points in a plane, before and after adaptation."""
    content = (run.analysis or {}).get("map")
    if not content or not content["shown"]:
        return None
    names = run.metrics["class_names"]
    drawn = f"{count(content['items'])} shapes"
    if content["shown"] < content["items"]:
        drawn = f"{count(content['shown'])} of {drawn}, drawn at random"
    part = "measured" if _part(run) in ("all", "train") else _part(run)
    markers = ["● training"] if False in content["held_out"] else []
    markers += [f"◆ {part}"] if True in content["held_out"] else []
    labels = sorted(set(content["labels"]))
    return {
        "drawn": f"{drawn}, placed by {content['method']}",
        "key": [(label, names[label], class_colour(label, len(names))) for label in labels],
        "markers": "   ".join(markers),
        "before": feature_map(content, "before", names),
        "after": feature_map(content, "after", names) if content["after"] else None,
    }


def _mistakes(analysis: dict[str, Any]) -> dict[str, Any]:
    """Wrongly classified shapes, each beside its neighbours among the training shapes."""
    names, mistakes = analysis["class_names"], analysis["mistakes"]
    clouds = {key: shaded_cloud(cloud, "near") for key, cloud in mistakes["clouds"].items()}
    scenes = []
    for place, item in enumerate(mistakes["listed"]):
        true, found = names[item["label"]], names[item["predicted"]]
        clouds[f"own{place}"] = shaded_cloud(item["cloud"], "own")
        panels = [(true, ("the shape itself", item["id"]), f"own{place}")]
        panels += [
            (names[near["label"]], (f"similarity {near['similarity']:.4f}", near["id"]),
             near["cloud"])
            for near in item["neighbours"]
        ]  # fmt: skip
        words = (("This is ", true), ("; the model says ", found),
                 (f" with a probability of {percent(item['probability'])}.", ""))  # fmt: skip
        name = f"{found} instead of {true} ({item['id']})"
        scenes.append({"name": name, "words": words, "panels": panels})
    return {
        "title": "Wrongly classified shapes",
        "note": _mistakes_note(analysis),
        "scenes": scenes,
        "clouds": clouds,
    }


def _mistakes_note(analysis: dict[str, Any]) -> str:
    part, items, mistakes = analysis["part"], analysis["items"], analysis["mistakes"]
    of = f"{items}" if part == "all" else f"{items} {part}"
    if not mistakes["total"]:
        return f"There are none: all {of} shapes were recognised."
    shown = len(mistakes["listed"])
    rest = ", the surest mistakes first."
    if shown < mistakes["total"]:
        rest = f"; the {shown} surest of them are shown."
    if any(item["neighbours"] for item in mistakes["listed"]):
        rest += (
            " Beside each are the training shapes most similar to it before adaptation, as a "
            "memory bank finds them."
        )
    return f"{mistakes['total']} of {of} shapes were taken for another class{rest}"


def describe_parts(run: ReportRun) -> dict[str, Any]:
    """All that is known of a part segmenter: IoU of categories and parts, and some shapes."""
    analysis = run.analysis or {}
    if not analysis.get("items"):
        return {"note": "No shape was measured.", "categories": [], "galleries": []}
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
    return {"note": note, "categories": _categories(analysis), "galleries": galleries}


def _categories(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for (category, iou), items in zip(
        analysis["category_iou"].items(), analysis["category_items"], strict=True
    ):
        known = analysis["part_items"][category]
        parts = [_row(n, value, known[n]) for n, value in analysis["part_iou"][category].items()]
        rows.append(_row(category, iou, items) | {"parts": parts})
    return rows


def _gallery(analysis: dict[str, Any], kind: str, title: str, note: str) -> dict[str, Any]:
    scenes, clouds = [], {}
    for place, shape in enumerate(analysis[kind]):
        category, names = shape["category"], analysis["names"]
        numbers, iou = analysis["categories"][category], percent(shape["iou"])
        panels: list[tuple[str, Sequence[str], str]] = []
        for which in ("true", "predicted"):
            clouds[f"{which}{place}"] = part_cloud(shape["cloud"], shape[which], numbers)
            panels.append((f"{which.capitalize()} parts", (), f"{which}{place}"))
        key = [
            (f"{names[number]} {percent(shape['parts'][names[number]])}",
             class_colour(i, len(numbers)))
            for i, number in enumerate(numbers)
        ]  # fmt: skip
        words = (("", category), (" with an IoU of ", iou), (f": {shape['id']}", ""))
        name = f"{category}, IoU {iou} ({shape['id']})"
        scenes.append({"name": name, "words": words, "panels": panels, "key": key})
    return {"title": title, "note": note, "scenes": scenes, "clouds": clouds}
