"""Accuracy of a classifier on prepared clouds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Scores", "classify", "encode_batches", "extract_features", "score"]


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
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that have items."""
        return float(np.nanmean(self.class_accuracy))


@torch.no_grad()
def classify(model: nn.Module, points: Tensor, batch_size: int = 64) -> Tensor:
    """Logits ``(S, classes)`` of clouds ``(S, N, 3)``, in eval mode, on the CPU."""
    device = next(model.parameters()).device
    model.eval()
    return torch.cat([model(batch.to(device)).float().cpu() for batch in points.split(batch_size)])


@torch.no_grad()
def extract_features(
    backbone: Any, points: Tensor, reference_compat: bool = False, batch_size: int = 64
) -> NDArray:
    """Retrieval features ``(S, C)`` of clouds ``(S, N, 3)``, in eval mode.

    ``reference_compat``: with the faults of the papers' code.
    """
    backbone.eval()
    return encode_batches(
        lambda batch: backbone.retrieval_features(batch, reference_compat),
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
