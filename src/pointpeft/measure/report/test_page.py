"""What a report shows of the test shapes of a run: their classes, or their parts."""

from typing import Any, NamedTuple

from pointpeft.formats import count, percent, percent_range
from pointpeft.measure.report.figures import (
    Figure,
    Gallery,
    Panel,
    Scene,
    class_colour,
    confusion,
    feature_map,
    part_cloud,
    shaded_cloud,
)
from pointpeft.measure.report.run_page import ReportRun
from pointpeft.measure.scores import wilson_interval

__all__ = ["Classes", "FeatureMap", "Parts", "describe_classes", "describe_parts"]

_MOST_CONFUSIONS = 8


class FeatureMap(NamedTuple):
    """Features as points in a plane, before and after adaptation."""

    title: str
    note: str
    key: list[tuple[int, str, str]]  # label, name, colour
    markers: str
    before: Figure
    after: Figure | None


class Classes(NamedTuple):
    """What a page says of one classifier."""

    note: str
    matrix: Figure | None
    confusions: list[tuple[str, str, str]]  # true, predicted, how many
    classes: list[dict[str, Any]]
    map: FeatureMap | None
    mistakes: Gallery | None


def describe_classes(run: ReportRun) -> Classes:
    """All that is known of a classifier; parts of it are None where that is not known."""
    analysis, metrics = run.analysis or {}, run.metrics
    counts = (
        analysis.get("confusion") or metrics.get("best_confusion") or metrics.get("confusion") or []
    )
    names = metrics["class_names"]
    measured = any(any(row) for row in counts)
    return Classes(
        note=_note(run) if measured else "No shape was measured.",
        matrix=confusion(counts, names) if measured else None,
        confusions=_confusions(counts, names),
        classes=_classes(counts, names) if measured else [],
        map=_map(run),
        mistakes=_mistakes(analysis) if analysis.get("items") else None,
    )


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
        notes.append(f"The best of {seeds} seeds by {by} accuracy, here and below.")
    return " ".join(notes)


def _confusions(counts: list[list[int]], names: list[str]) -> list[tuple[str, str, str]]:
    """The most frequent ones, first the most frequent."""
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
        sure = None if accuracy is None else wilson_interval(accuracy, items)
        shown = "not measured" if accuracy is None else percent(accuracy)
        rows.append(
            {
                "name": name,
                "items": items,
                "accuracy": accuracy,
                "shown": shown,
                "interval": percent_range(sure),
            }
        )
    return sorted(rows, key=lambda row: 2.0 if row["accuracy"] is None else row["accuracy"])


def _map(run: ReportRun) -> FeatureMap | None:
    content = (run.analysis or {}).get("map")
    if not content or not content["shown"]:
        return None
    names = run.metrics["class_names"]
    adapted = content["after"] is not None
    drawn = f"{count(content['items'])} shapes"
    if content["shown"] < content["items"]:
        drawn = f"{count(content['shown'])} of {drawn}, drawn at random"
    frozen = (
        "" if adapted else "The head alone was trained, so the features are the same before and "
        "after adaptation. "
    )  # fmt: skip
    part = {"all": "measured", "train": "measured"}.get(_part(run), _part(run))
    markers = ["● training"] if False in content["held_out"] else []
    markers += [f"◆ {part}"] if True in content["held_out"] else []
    return FeatureMap(
        title="Features before and after adaptation" if adapted
        else "Features of the pre-trained encoder",
        note=f"{frozen}{drawn}, placed by {content['method']}: near each other means alike to the "
        "network. Directions and distances between far groups mean nothing. Click a class to hide "
        "it.",
        key=[(label, names[label], class_colour(label, len(names)))
             for label in sorted(set(content["labels"]))],
        markers="   ".join(markers),
        before=feature_map(content, "before", names),
        after=feature_map(content, "after", names) if adapted else None,
    )  # fmt: skip


def _mistakes(analysis: dict[str, Any]) -> Gallery:
    """Wrongly classified shapes, each beside its neighbours among the training shapes."""
    names, mistakes = analysis["class_names"], analysis["mistakes"]
    near = {key: shaded_cloud(cloud, "near") for key, cloud in mistakes["clouds"].items()}
    scenes = []
    for place, item in enumerate(mistakes["listed"]):
        true, found = names[item["label"]], names[item["predicted"]]
        panels = [Panel(true, ("the shape itself", item["id"]), f"own{place}")]
        panels += [
            Panel(
                names[other["label"]],
                (f"similarity {other['similarity']:.4f}", other["id"]),
                other["cloud"],
            )
            for other in item["neighbours"]
        ]
        near[f"own{place}"] = shaded_cloud(item["cloud"], "own")
        words = (("This is ", true), ("; the model says ", found),
                 (f" with a probability of {percent(item['probability'])}.", ""))  # fmt: skip
        scenes.append(Scene(f"{found} instead of {true} ({item['id']})", words, panels))
    return Gallery("Wrongly classified shapes", _mistakes_note(analysis), scenes, near)


def _mistakes_note(analysis: dict[str, Any]) -> str:
    part, items, mistakes = analysis["part"], analysis["items"], analysis["mistakes"]
    of = f"{items}" if part == "all" else f"{items} {part}"
    if not mistakes["total"]:
        return f"There are none: all {of} shapes were recognised."
    shown = len(mistakes["listed"])
    rest = ", the surest mistakes first."
    if shown < mistakes["total"]:
        rest = f"; the {shown} surest of them are shown."
    beside = (
        "Beside each are the training shapes most similar to it before adaptation, as a memory "
        "bank finds them."
    )
    if not any(item["neighbours"] for item in mistakes["listed"]):
        beside = (
            "The shapes that the model was trained on are not part of this data, so none are shown "
            "beside."
        )
    return f"{mistakes['total']} of {of} shapes were taken for another class{rest} {beside}"


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
