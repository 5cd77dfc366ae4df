"""How well a tokenizer rebuilds shapes that it is not trained on, while it is pre-trained."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from pointpeft.data.transforms import Transform
from pointpeft.errors import ConfigError
from pointpeft.ops import chamfer_distance
from pointpeft.peft.bank import eval_mode
from pointpeft.training.best_epoch import BestEpoch, Keep

__all__ = ["RebuildingCheck"]

_BATCH = 32


class RebuildingCheck(BestEpoch):
    """Logs the Chamfer-L1 distance of rebuilt clouds as ``<split>_chamfer_l1``; the least is best.

    Args:
        points: clouds ``(S, N, 3)`` that are not trained on.
        draw: makes of a batch of them what the network sees.
        every: epochs from one measurement to the next.
        keep: what is done with the best epoch.
        split: of which the clouds are, "val" or "test".
    """

    label, form = "rebuilt", ".5f"
    larger_is_better = False

    def __init__(
        self, points: Tensor, draw: Transform, every: int, keep: Keep, split: str = "val"
    ) -> None:
        super().__init__(every, keep)
        self.metric, self.split = f"{split}_chamfer_l1", split
        self.points, self.draw = points, draw

    def on_fit_start(self, trainer: L.Trainer, task: Any) -> None:
        """Refuse a network that rebuilds nothing."""
        if not hasattr(task.model, "rebuild_clouds"):
            raise ConfigError(
                "validate_every is for tokenizers (model=point_bert_dvae); encoders are measured "
                "by a linear SVM: svm.source=DATA"
            )

    @torch.no_grad()
    def measure(self, model: Any) -> float:
        """Mean over the clouds, in the unit of their coordinates."""
        device, total = next(model.parameters()).device, 0.0
        with eval_mode(model):
            for batch in self.points.split(_BATCH):
                seen = self.draw(batch.to(device))
                distance = chamfer_distance(model.rebuild_clouds(seen), seen, norm="l1")
                total += len(seen) * distance.item()
        return total / len(self.points)
