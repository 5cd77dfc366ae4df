"""Part segmentation: restricted predictions and mean intersection over union."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointpeft.errors import DataError

__all__ = ["SegmentationScores", "restrict_to_category", "score_parts"]


@dataclass(frozen=True)
class SegmentationScores:
    """How well parts were found, as published for ShapeNetPart.

    Attributes:
        accuracy: share of points labelled correctly, 0 to 1.
        mean_class_accuracy: mean over the parts that occur of the share of their points.
        category_iou: mean IoU of the shapes of each category, by name; None without a shape.
        class_iou: mean of ``category_iou`` over the categories that have shapes.
        instance_iou: mean IoU over all shapes.
    """

    accuracy: float
    mean_class_accuracy: float
    category_iou: dict[str, float | None]
    class_iou: float
    instance_iou: float


def restrict_to_category(scores: NDArray, parts: Sequence[int]) -> NDArray[np.int64]:
    """The likeliest part of every point among those of its shape's category.

    Args:
        scores: logits or log-probabilities ``(N, parts)``.
        parts: numbers of the category's parts.
    """
    return np.asarray(parts, dtype=np.int64)[scores[:, list(parts)].argmax(axis=1)]


def score_parts(
    scores: Sequence[NDArray],
    targets: Sequence[NDArray],
    categories: Mapping[str, Sequence[int]],
) -> SegmentationScores:
    """Score the points of several shapes, each within the category of its true parts.

    A part that neither occurs nor is predicted counts as found. Where the published code divides
    by nothing (a category without shapes, a part without points), it is left out of the mean.

    Args:
        scores: per shape ``(N, parts)``: logits or log-probabilities.
        targets: per shape ``(N,)``: true parts.
        categories: numbers of the parts of each category.

    Raises:
        DataError: a part that is in no category, a shape with parts of two, or no shape at all.
    """
    if not len(targets):
        raise DataError("no shape to score")
    category_of = {part: name for name, parts in categories.items() for part in parts}
    num_parts = 1 + max(category_of)
    ious: dict[str, list[float]] = {name: [] for name in categories}
    correct, seen = np.zeros(num_parts), np.zeros(num_parts)
    for place, (score, target) in enumerate(zip(scores, targets, strict=True)):
        name = _category(target, category_of, place)
        predicted = restrict_to_category(score, categories[name])
        ious[name].append(_shape_iou(predicted, target, categories[name]))
        seen += np.bincount(target, minlength=num_parts)
        correct += np.bincount(target[predicted == target], minlength=num_parts)
    means = {name: float(np.mean(values)) if values else None for name, values in ious.items()}
    return SegmentationScores(
        accuracy=float(correct.sum() / seen.sum()),
        mean_class_accuracy=float((correct[seen > 0] / seen[seen > 0]).mean()),
        category_iou=means,
        class_iou=float(np.mean([mean for mean in means.values() if mean is not None])),
        instance_iou=float(np.mean([iou for values in ious.values() for iou in values])),
    )


def _category(target: NDArray, category_of: Mapping[int, str], place: int) -> str:
    parts = np.unique(target).tolist()
    unknown = [part for part in parts if part not in category_of]
    if unknown:
        raise DataError(f"shape {place} has part {unknown[0]}, which is of no category")
    names = {category_of[part] for part in parts}
    if len(names) > 1:
        raise DataError(
            f"shape {place} has parts of several categories: {', '.join(sorted(names))}"
        )
    return names.pop()


def _shape_iou(predicted: NDArray, target: NDArray, parts: Sequence[int]) -> float:
    """Mean IoU over the parts of the category."""
    ious = []
    for part in parts:
        union = np.sum((predicted == part) | (target == part))
        both = np.sum((predicted == part) & (target == part))
        ious.append(both / union if union else 1.0)
    return float(np.mean(ious))
