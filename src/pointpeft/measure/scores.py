"""Scores of a classifier, and how sure an accuracy is."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointpeft.models.trunk import Trunk

__all__ = [
    "Scores",
    "accuracy_intervals",
    "class_counts",
    "classify",
    "encode_batches",
    "extract_features",
    "score",
    "wilson_interval",
]


@dataclass(frozen=True)
class Scores:
    """How well a classifier did on one split.

    Attributes:
        accuracy: share of items classified correctly, 0 to 1.
        class_accuracy: share per class; NaN for a class without items.
        confusion: ``(classes, classes)`` counts, rows true, columns predicted.
    """

    accuracy: float
    class_accuracy: NDArray[np.float64]
    confusion: NDArray[np.int64]

    @property
    def macro_f1(self) -> float:
        """Mean over the classes that have items of the harmonic mean of precision and recall."""
        items, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        f1 = 2 * self.confusion.diagonal() / np.maximum(items + predicted, 1)
        return float(f1[items > 0].mean()) if items.any() else float("nan")

    def confused(self, most: int = 5) -> list[tuple[int, int, int]]:
        """The most frequent mistakes: true class, predicted class, how many."""
        mistakes = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
        pairs = (divmod(int(place), len(mistakes)) for place in order)
        return [(a, b, int(mistakes[a, b])) for a, b in pairs if mistakes[a, b]]

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that have items."""
        return float(np.nanmean(self.class_accuracy))


@torch.no_grad()
def classify(model: nn.Module, points: Tensor, batch_size: int = 64) -> Tensor:
    """Logits ``(S, classes)`` of clouds ``(S, N, 3)``, in eval mode, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    return torch.from_numpy(encode_batches(model, points, device, batch_size))


@torch.no_grad()
def extract_features(
    backbone: Trunk,
    points: Tensor,
    features: Callable[[Trunk, Tensor], Tensor] | None = None,
    batch_size: int = 64,
) -> NDArray:
    """Features ``(S, C)`` of clouds ``(S, N, 3)``, in eval mode.

    Args:
        backbone: an encoder.
        points: clouds.
        features: of the backbone and a batch; None: its ``retrieval_features``.
        batch_size: clouds that are encoded at once.
    """
    backbone.eval()
    return encode_batches(
        partial(features or type(backbone).retrieval_features, backbone),
        points,
        next(backbone.parameters()).device,
        batch_size,
    )


@torch.no_grad()
def encode_batches(
    encode: Callable[[Tensor], Tensor],
    points: Tensor,
    device: torch.device,
    batch_size: int = 64,
) -> NDArray:
    """``encode`` of clouds ``(S, N, 3)``, a batch at a time."""
    batches = [encode(batch.to(device)) for batch in points.split(batch_size)]
    return torch.cat(batches).float().cpu().numpy()


def score(predictions: NDArray, labels: NDArray, num_classes: int) -> Scores:
    """Score predicted labels ``(S,)`` against true ones."""
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    counts = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        per_class = np.where(counts > 0, confusion.diagonal() / counts, np.nan)
    accuracy = float(confusion.trace() / max(1, len(labels)))
    return Scores(accuracy, per_class, confusion)


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
    # Rounding must not leave the share itself out.
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))


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
