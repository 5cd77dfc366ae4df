"""How accurate a classifier is where the orientation of shapes is not that of its training."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from pointpeft.measure.scores import classify

__all__ = ["rotated_accuracies"]

_TURNS = 3
_MOST_SHAPES = 500


def rotated_accuracies(
    model: nn.Module, points: Tensor, labels: NDArray[np.int64], batch_size: int, seed: int = 0
) -> dict[str, Any]:
    """Accuracies after random rotations, three about the up axis and three in space.

    Every shape has rotations of its own. Of more than 500 shapes, 500 are drawn.

    Args:
        model: a classifier in eval mode.
        points: ``(S, N, 3)``, y up.
        labels: ``(S,)``.
        batch_size: clouds at a time.
        seed: of the rotations.

    Returns:
        ``rotated_up_accuracies`` and ``rotated_space_accuracies``, three shares each, and
        ``rotated_items``.
    """
    rng = np.random.default_rng(seed)
    if len(points) > _MOST_SHAPES:
        kept = np.sort(rng.choice(len(points), _MOST_SHAPES, replace=False))
        points, labels = points[torch.from_numpy(kept)], labels[kept]

    def turned(space: bool) -> float:
        up = np.array([[0.0, 1.0, 0.0]])
        angles = rng.uniform(0, 2 * np.pi, (len(points), 1))
        drawn = Rotation.random(len(points), rng) if space else Rotation.from_rotvec(angles * up)
        matrices = torch.from_numpy(drawn.as_matrix()).to(points)
        logits = classify(model, points @ matrices.mT, batch_size)
        return float((logits.argmax(dim=1).numpy() == labels).mean())

    return {
        "rotated_up_accuracies": [turned(space=False) for _ in range(_TURNS)],
        "rotated_space_accuracies": [turned(space=True) for _ in range(_TURNS)],
        "rotated_items": len(points),
    }
