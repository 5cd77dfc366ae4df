"""Voting: predictions from several random views of every test cloud."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointpeft.data import ShapeSplit
from pointpeft.data.transforms import Compose, recipe
from pointpeft.measure.scores import classify

__all__ = ["PASSES", "vote", "vote_accuracy", "vote_once", "vote_seed"]

PASSES = 10
"""Passes of one vote, as in the papers."""


def vote(
    model: nn.Module,
    points: Tensor,
    view: Compose,
    passes: int = PASSES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Mean logits of ``passes`` random views of each cloud.

    Args:
        model: a classifier.
        points: clouds ``(S, N, 3)``, with more points than the model sees.
        view: what a training cloud goes through: a choice of points, and augmentation.
        passes: views per cloud.
        seed: of the views.
        progress: called with (done, total).

    Returns:
        ``(S, classes)``.
    """
    generator, logits = torch.Generator().manual_seed(seed), []
    for place in range(passes):
        logits.append(classify(model, view(points, generator)))
        if progress is not None:
            progress(place + 1, passes)
    return torch.stack(logits).mean(dim=0)


def vote_accuracy(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """Share of clouds, 0 to 1, whose largest logit ``(S, classes)`` is that of ``labels (S,)``."""
    return float((logits.argmax(1).numpy() == labels).mean())


def vote_seed(seed: int, place: int) -> int:
    """Seed of one of several votes; a sum would give neighbouring seeds nearly the same ones."""
    return int(np.random.SeedSequence((seed, place)).generate_state(1)[0])


def vote_once(
    model: nn.Module,
    split: ShapeSplit,
    num_points: int,
    passes: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Accuracy by voting, and how it came about.

    Args:
        model: a classifier.
        split: labelled clouds in farthest-point order.
        num_points: points that the model sees.
        passes: of the one vote.
        seed: of the views.
        progress: called with (done, total).

    Returns:
        ``vote_accuracy`` (0 to 1) and ``vote_rule`` in words.
    """
    points, view = torch.from_numpy(split.points), recipe("scale-shift", num_points)
    found = vote(model, points, view, passes, seed, progress)
    return {
        "vote_accuracy": vote_accuracy(found, split.labels),
        "vote_rule": f"mean of {passes} seeded passes",
    }
