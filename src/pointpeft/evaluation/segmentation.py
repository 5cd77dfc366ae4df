"""Part segmentation: restricted predictions and mean intersection over union."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointpeft.data import PartTable, ShapeSplit
from pointpeft.errors import DataError

__all__ = [
    "SegmentationScores",
    "likeliest_parts",
    "part_mask",
    "restrict_to_category",
    "score_labels",
    "score_parts",
    "score_segmenter",
    "segment",
    "shape_iou",
]


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
    category_of = {part: name for name, parts in categories.items() for part in parts}
    names = [_category(target, category_of, place) for place, target in enumerate(targets)]
    predicted = [
        restrict_to_category(score, categories[name])
        for score, name in zip(scores, names, strict=True)
    ]
    return score_labels(predicted, targets, names, categories)


def score_labels(
    predicted: Sequence[NDArray],
    targets: Sequence[NDArray],
    names: Sequence[str],
    categories: Mapping[str, Sequence[int]],
) -> SegmentationScores:
    """As :func:`score_parts`, for labels that are chosen already and categories that are known.

    Args:
        predicted: per shape ``(N,)``: parts of its category.
        targets: per shape ``(N,)``: true parts.
        names: the category of each shape.
        categories: numbers of the parts of each category, which may share some.

    Raises:
        DataError: there is no shape.
    """
    if not len(targets):
        raise DataError("no shape to score")
    num_parts = 1 + max(part for parts in categories.values() for part in parts)
    ious: dict[str, list[float]] = {name: [] for name in categories}
    correct, seen = np.zeros(num_parts), np.zeros(num_parts)
    for found, target, name in zip(predicted, targets, names, strict=True):
        ious[name].append(shape_iou(found, target, categories[name]))
        seen += np.bincount(target, minlength=num_parts)
        correct += np.bincount(target[found == target], minlength=num_parts)
    means = {name: float(np.mean(values)) if values else None for name, values in ious.items()}
    return SegmentationScores(
        accuracy=float(correct.sum() / seen.sum()),
        mean_class_accuracy=float((correct[seen > 0] / seen[seen > 0]).mean()),
        category_iou=means,
        class_iou=float(np.mean([mean for mean in means.values() if mean is not None])),
        instance_iou=float(np.mean([iou for values in ious.values() for iou in values])),
    )


def score_segmenter(
    model: nn.Module, split: ShapeSplit, parts: PartTable, num_points: int, batch_size: int = 32
) -> SegmentationScores | None:
    """Scores of a part-segmentation model on a split with part labels; None when it is empty.

    Args:
        model: called with points and category, such as a :class:`pointpeft.peft.PeftModel`.
        split: prepared clouds.
        parts: what the logits stand for, and which belong to which category.
        num_points: of each cloud, counted from its first one, that the model sees.
        batch_size: shapes at a time.
    """
    if not len(split) or split.seg is None:
        return None
    points = torch.from_numpy(split.points)[:, :num_points]
    labels = torch.from_numpy(split.labels)
    found = segment(model, points, labels, part_mask(parts), batch_size)
    names = list(parts.categories)
    return score_labels(
        list(found),
        list(split.seg[:, :num_points]),
        [names[label] for label in split.labels],
        parts.categories,
    )


@torch.no_grad()
def segment(
    model: nn.Module, points: Tensor, category: Tensor, mask: Tensor, batch_size: int = 32
) -> NDArray[np.int64]:
    """The likeliest part of every point, ``(S, N)``, in eval mode.

    Args:
        model: called with points and category, such as a :class:`pointpeft.peft.PeftModel`.
        points: ``(S, N, 3)``.
        category: numbers of the shapes' categories, ``(S,)``.
        mask: which parts each category has, see :func:`part_mask`.
        batch_size: shapes at a time.
    """
    device = next(model.parameters()).device
    model.eval()
    found = []
    for clouds, of in zip(points.split(batch_size), category.split(batch_size), strict=True):
        logits = model(clouds.to(device), category=of.to(device))
        found.append(likeliest_parts(logits, of.to(device), mask.to(device)).cpu())
    return torch.cat(found).numpy()


def likeliest_parts(logits: Tensor, category: Tensor, mask: Tensor) -> Tensor:
    """Of each point the likeliest part of its shape's category, ``(B, N)``.

    Args:
        logits: ``(B, N, parts)``.
        category: ``(B,)``.
        mask: ``(categories, parts)``, see :func:`part_mask`.
    """
    return logits.masked_fill(~mask[category].unsqueeze(1), -torch.inf).argmax(dim=-1)


def part_mask(parts: PartTable) -> Tensor:
    """Which parts each category has, ``(categories, parts)`` of bool."""
    mask = torch.zeros(len(parts.categories), len(parts.names), dtype=torch.bool)
    for category, own in enumerate(parts.categories.values()):
        mask[category, list(own)] = True
    return mask


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


def shape_iou(predicted: NDArray, target: NDArray, parts: Sequence[int]) -> float:
    """Mean IoU of a shape over the parts of its category; one that is absent from both counts 1.

    Args:
        predicted: ``(N,)`` parts of the category.
        target: ``(N,)`` true parts.
        parts: numbers of the category's parts.
    """
    ious = []
    for part in parts:
        union = np.sum((predicted == part) | (target == part))
        both = np.sum((predicted == part) & (target == part))
        ious.append(both / union if union else 1.0)
    return float(np.mean(ious))
