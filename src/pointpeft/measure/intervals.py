"""How far an accuracy measured on some shapes may be from that on all shapes of their kind."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["accuracy_intervals", "class_counts", "wilson_interval"]

_Z = 1.959964  # standard deviations that hold 95 % of a normal distribution
_MEASURED = ("train", "val", "test", "all")
_KINDS = ("accuracy", "vote_accuracy")


def wilson_interval(share: float, items: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share by Wilson's score method.

    It is right for few items and near 0 and 1, where the usual plus or minus is not: 3 of 3 gives
    0.44 to 1.

    Args:
        share: of items that were right, 0 to 1.
        items: how many were measured.

    Returns:
        Lower and upper bound, 0 to 1.

    Raises:
        ValueError: no item, or a share out of range.
    """
    if items < 1 or not 0 <= share <= 1:
        raise ValueError(f"share={share} of items={items}: expected 0 to 1 of at least one item")
    z2 = _Z**2 / items
    middle = (share + z2 / 2) / (1 + z2)
    reach = _Z * math.sqrt(share * (1 - share) / items + z2 / (4 * items)) / (1 + z2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def accuracy_intervals(metrics: Mapping[str, Any]) -> dict[str, list[float]]:
    """Intervals of all accuracies of shapes whose number is known.

    An interval tells what the choice of shapes may do to an accuracy. It does not know of seeds,
    over whose runs an accuracy may be a mean, nor of an epoch that was chosen on the same shapes.

    Args:
        metrics: ``<split>_accuracy``, ``<split>_vote_accuracy`` and ``<split>_items``.

    Returns:
        ``<split>_accuracy_interval`` and ``<split>_vote_accuracy_interval``, pairs of 0 to 1.
    """
    found = {}
    for split in _MEASURED:
        items = metrics.get(f"{split}_items")
        for kind in _KINDS:
            share = metrics.get(f"{split}_{kind}")
            if items and share is not None:
                found[f"{split}_{kind}_interval"] = list(wilson_interval(share, items))
    return found


def class_counts(class_names: Sequence[str], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Of the measured shapes how many each class has, and which classes have none.

    Args:
        class_names: in label order.
        labels: ``(S,)``.

    Returns:
        ``class_names``, ``class_items`` and, of the classes that an accuracy says nothing of,
        ``unmeasured_classes``.
    """
    items = np.bincount(labels, minlength=len(class_names)).tolist()
    without = [name for name, number in zip(class_names, items, strict=True) if not number]
    return {
        "class_names": list(class_names),
        "class_items": items,
        "unmeasured_classes": without,
    }
