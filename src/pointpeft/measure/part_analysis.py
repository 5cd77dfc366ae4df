"""What a part segmenter makes of shapes: IoU by part, and shapes with true and predicted parts."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointpeft.data import PartTable, ShapeSplit
from pointpeft.measure.adapters import LoadedAdapter
from pointpeft.measure.part_scores import (
    mean_over_parts,
    part_ious,
    part_mask,
    score_split,
    segment,
)
from pointpeft.peft import PeftModel

__all__ = ["analyse_part_adapter", "analyse_parts", "by_part_name"]

_SHOWN = 12  # shapes of each kind: the worst, and others drawn at random
_CLOUD_POINTS = 1024
_DECIMALS = 3


def analyse_part_adapter(
    folder: str | Path, split: ShapeSplit, part: str = "test", device: str = "cpu"
) -> dict[str, Any]:
    """:func:`analyse_parts` of a saved adapter or run folder."""
    adapter = LoadedAdapter(folder, device=device)
    assert adapter.parts is not None, "an adapter of part segmentation"
    return analyse_parts(adapter.model, split, adapter.parts, adapter.transform.num_points, part)


def analyse_parts(
    model: PeftModel,
    split: ShapeSplit,
    parts: PartTable,
    num_points: int,
    part: str = "test",
    seed: int = 0,
) -> dict[str, Any]:
    """IoU of every category and part, the worst shapes, and shapes drawn at random.

    Args:
        model: the adapted segmenter.
        split: shapes to measure, with part labels; may be empty.
        parts: what the logits stand for, and which belong to which category.
        num_points: of each cloud, counted from its first one, that the model sees.
        part: what ``split`` is, in a word.
        seed: of the choice at random.

    Returns:
        Plain values, ready for JSON; the same for the same arguments.
    """
    content: dict[str, Any] = {"part": part, "items": len(split)} | parts.to_dict()
    if not len(split):
        return content
    points = torch.from_numpy(split.points)[:, :num_points]
    found = segment(model, points, torch.from_numpy(split.labels), part_mask(parts))
    scores = score_split(found, split, parts)
    shapes = [_shape(split, found, place, parts) for place in range(len(split))]
    worst = np.argsort([shape["iou"] for shape in shapes], kind="stable")[:_SHOWN]
    drawn = np.random.default_rng(seed).permutation(len(split))[:_SHOWN]
    return content | {
        "category_items": np.bincount(split.labels, minlength=len(parts.categories)).tolist(),
        "category_iou": scores.category_iou,
        "part_iou": by_part_name(scores.part_iou, parts),
        "part_items": by_part_name(scores.part_items, parts),
        "worst": [_with_cloud(shapes[i], split, found, i) for i in worst.tolist()],
        "random": [_with_cloud(shapes[i], split, found, i) for i in drawn.tolist()],
    }


def by_part_name(of: dict[str, dict[int, Any]], parts: PartTable) -> dict[str, dict[str, Any]]:
    """Values by category and number of the part as values by category and name of the part."""
    return {
        category: {parts.names[number]: value for number, value in values.items()}
        for category, values in of.items()
    }


def _shape(split: ShapeSplit, found: NDArray, place: int, parts: PartTable) -> dict[str, Any]:
    assert split.seg is not None, "read with part labels"
    category = list(parts.categories)[int(split.labels[place])]
    numbers = parts.categories[category]
    ious = part_ious(found[place], split.seg[place, : found.shape[1]], numbers)
    return {
        "id": split.ids[place],
        "category": category,
        "iou": mean_over_parts(ious),
        "parts": {
            parts.names[number]: None if np.isnan(iou) else float(iou)
            for number, iou in zip(numbers, ious, strict=True)
        },
    }


def _with_cloud(
    shape: dict[str, Any], split: ShapeSplit, found: NDArray, place: int
) -> dict[str, Any]:
    """With an even subsample of its points: clouds are in farthest point order."""
    assert split.seg is not None, "read with part labels"
    number = min(_CLOUD_POINTS, found.shape[1])
    cloud = split.points[place, :number].astype(np.float64).round(_DECIMALS)
    return shape | {
        "cloud": cloud.ravel().tolist(),
        "true": split.seg[place, :number].tolist(),
        "predicted": found[place, :number].tolist(),
    }
