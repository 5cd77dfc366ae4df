"""Scores of part segmentation, and what is known of every shape of a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointpeft.data import PartTable, ShapeSplit
from pointpeft.errors import DataError
from pointpeft.peft import PeftModel

__all__ = [
    "SegmentationScores",
    "analyse_parts",
    "by_part_name",
    "likeliest_parts",
    "mean_over_parts",
    "part_ious",
    "part_mask",
    "score_labels",
    "score_parts",
    "score_segmenter",
    "score_split",
    "segment",
    "shape_iou",
]


@dataclass(frozen=True)
class SegmentationScores:
    """How well parts were found, as in the papers for ShapeNetPart.

    Attributes:
        accuracy: share of points labelled correctly, 0 to 1.
        mean_class_accuracy: mean over the parts that occur of the share of their points.
        category_iou: mean IoU of the shapes of each category, by name; None without a shape.
        part_iou: of each category the IoU of its parts by number: the mean over the shapes in which
            the part occurs or is predicted; None without one.
        part_items: of each category, by part, the shapes in which the part occurs.
        class_iou: mean of ``category_iou`` over the categories that have shapes.
        instance_iou: mean IoU over all shapes.
    """

    accuracy: float
    mean_class_accuracy: float
    category_iou: dict[str, float | None]
    part_iou: dict[str, dict[int, float | None]]
    part_items: dict[str, dict[int, int]]
    class_iou: float
    instance_iou: float


def score_parts(
    scores: Sequence[NDArray],
    targets: Sequence[NDArray],
    categories: Mapping[str, Sequence[int]],
) -> SegmentationScores:
    """Score the points of several shapes, each within the category of its true parts.

    A part that neither occurs nor is predicted counts as found. Where the papers' code divides
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
        np.asarray(categories[name])[score[:, list(categories[name])].argmax(axis=1)]
        for score, name in zip(scores, names, strict=True)
    ]
    return score_labels(predicted, targets, names, categories)


def score_labels(
    predicted: Sequence[NDArray],
    targets: Sequence[NDArray],
    names: Sequence[str],
    categories: Mapping[str, Sequence[int]],
) -> SegmentationScores:
    """As :func:`score_parts`, for chosen parts ``(N,)`` of shapes whose categories are named.

    Categories may share parts.

    Raises:
        DataError: there is no shape.
    """
    if not len(targets):
        raise DataError("no shape to score")
    num_parts = 1 + max(part for parts in categories.values() for part in parts)
    ious: dict[str, list[NDArray]] = {name: [] for name in categories}
    items = {name: np.zeros(len(parts), dtype=int) for name, parts in categories.items()}
    correct, seen = np.zeros(num_parts), np.zeros(num_parts)
    for found, target, name in zip(predicted, targets, names, strict=True):
        ious[name].append(part_ious(found, target, categories[name]))
        items[name] += np.isin(categories[name], target)
        seen += np.bincount(target, minlength=num_parts)
        correct += np.bincount(target[found == target], minlength=num_parts)
    shapes = {name: [mean_over_parts(one) for one in of] for name, of in ious.items()}
    means = {name: float(np.mean(values)) if values else None for name, values in shapes.items()}
    return SegmentationScores(
        accuracy=float(correct.sum() / seen.sum()),
        mean_class_accuracy=float((correct[seen > 0] / seen[seen > 0]).mean()),
        category_iou=means,
        part_iou={name: _of_parts(of, categories[name]) for name, of in ious.items()},
        part_items={
            name: dict(zip(parts, items[name].tolist(), strict=True))
            for name, parts in categories.items()
        },
        class_iou=float(np.mean([mean for mean in means.values() if mean is not None])),
        instance_iou=float(np.mean([iou for values in shapes.values() for iou in values])),
    )


def score_segmenter(
    model: nn.Module, split: ShapeSplit, parts: PartTable, num_points: int, batch_size: int = 32
) -> SegmentationScores | None:
    """Scores of a part-segmentation model on a split with part labels; None when it is empty.

    The model sees the first ``num_points`` of each cloud; arguments are those of :func:`segment`.
    """
    if not len(split) or split.seg is None:
        return None
    points = torch.from_numpy(split.points)[:, :num_points]
    labels = torch.from_numpy(split.labels)
    found = segment(model, points, labels, part_mask(parts), batch_size)
    return score_split(found, split, parts)


def score_split(predicted: NDArray, split: ShapeSplit, parts: PartTable) -> SegmentationScores:
    """Scores of predicted parts ``(S, N)`` of the first ``N`` points of each cloud of a split.

    Raises:
        DataError: there is no shape.
    """
    assert split.seg is not None, "read with part labels"
    names = list(parts.categories)
    return score_labels(
        list(predicted),
        list(split.seg[:, : predicted.shape[1]]),
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

    Logits are ``(B, N, parts)``, categories ``(B,)``; the mask is that of :func:`part_mask`.
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
    """Mean IoU of a shape over the parts of its category; one that is absent from both counts 1."""
    return mean_over_parts(part_ious(predicted, target, parts))


def part_ious(predicted: NDArray, target: NDArray, parts: Sequence[int]) -> NDArray[np.float64]:
    """IoU of each of a category's parts, ``(parts,)``, for predicted and true parts ``(N,)``.

    NaN where a part neither occurs nor is predicted.
    """
    ious = []
    for part in parts:
        union = np.sum((predicted == part) | (target == part))
        both = np.sum((predicted == part) & (target == part))
        ious.append(both / union if union else np.nan)
    return np.array(ious)


def mean_over_parts(ious: NDArray) -> float:
    """IoU of a shape from those of :func:`part_ious`: a part that is absent from both counts 1."""
    return float(np.mean(np.where(np.isnan(ious), 1.0, ious)))


def _of_parts(ious: Sequence[NDArray], parts: Sequence[int]) -> dict[int, float | None]:
    """Mean IoU of each part over the shapes that have one."""
    found: dict[int, float | None] = {}
    for place, part in enumerate(parts):
        known = [one[place] for one in ious if not np.isnan(one[place])]
        found[part] = float(np.mean(known)) if known else None
    return found


_SHOWN = 12  # shapes of each kind: the worst, and others drawn at random
_CLOUD_POINTS = 1024
_DECIMALS = 3


def analyse_parts(
    model: PeftModel,
    split: ShapeSplit,
    parts: PartTable,
    num_points: int,
    part: str = "test",
) -> dict[str, Any]:
    """IoU of every category and part, the worst shapes, and shapes drawn at random.

    Args:
        model: the adapted segmenter.
        split: shapes to measure, with part labels; may be empty.
        parts: what the logits stand for, and which belong to which category.
        num_points: of each cloud, counted from its first one, that the model sees.
        part: what ``split`` is, in a word.

    Returns:
        Plain values, ready for JSON; the same for the same arguments.
    """
    content: dict[str, Any] = {"part": part, "items": len(split)} | parts.to_dict()
    if not len(split):
        return content
    points = torch.from_numpy(split.points)[:, :num_points]
    found = segment(model, points, torch.from_numpy(split.labels), part_mask(parts))
    scores = score_split(found, split, parts)
    assert split.seg is not None, "read with part labels"
    numbers = list(parts.categories.values())
    shapes = zip(found, split.seg[:, : found.shape[1]], split.labels, strict=True)
    ious = [shape_iou(one, true, numbers[label]) for one, true, label in shapes]
    worst = np.argsort(ious, kind="stable")[:_SHOWN]
    drawn = np.random.default_rng(0).permutation(len(split))[:_SHOWN]
    return content | {
        "category_items": np.bincount(split.labels, minlength=len(parts.categories)).tolist(),
        "category_iou": scores.category_iou,
        "part_iou": by_part_name(scores.part_iou, parts),
        "part_items": by_part_name(scores.part_items, parts),
        "worst": [_shape(split, found, i, parts) for i in worst.tolist()],
        "random": [_shape(split, found, i, parts) for i in drawn.tolist()],
    }


def by_part_name(of: dict[str, dict[int, Any]], parts: PartTable) -> dict[str, dict[str, Any]]:
    """Values by category and number of the part as values by category and name of the part."""
    return {
        category: {parts.names[number]: value for number, value in values.items()}
        for category, values in of.items()
    }


def _shape(split: ShapeSplit, found: NDArray, place: int, parts: PartTable) -> dict[str, Any]:
    """A shape with an even subsample of its points: clouds are in farthest point order."""
    assert split.seg is not None, "read with part labels"
    category = list(parts.categories)[int(split.labels[place])]
    numbers = parts.categories[category]
    ious = part_ious(found[place], split.seg[place, : found.shape[1]], numbers)
    shown = min(_CLOUD_POINTS, found.shape[1])
    cloud = split.points[place, :shown].astype(np.float64).round(_DECIMALS)
    return {
        "id": split.ids[place],
        "category": category,
        "iou": mean_over_parts(ious),
        "parts": {
            parts.names[number]: None if np.isnan(iou) else float(iou)
            for number, iou in zip(numbers, ious, strict=True)
        },
        "cloud": cloud.ravel().tolist(),
        "true": split.seg[place, :shown].tolist(),
        "predicted": found[place, :shown].tolist(),
    }
