"""The published schedule of BatchNorm's momentum, in training for part segmentation."""

from typing import Any

import lightning as L
from torch.nn.modules.batchnorm import _BatchNorm

from pointpeft.training.config import OptimizerConfig

__all__ = ["BatchNormMomentum", "batchnorm_momentum"]

_FIRST, _LEAST = 0.1, 0.01


class BatchNormMomentum(L.Callback):
    """Sets the momentum of all BatchNorm layers at the beginning of every epoch.

    Args:
        config: ``bn_momentum_decay``, without which nothing is set, and ``bn_momentum_step``.
    """

    def __init__(self, config: OptimizerConfig) -> None:
        self.decay, self.step = config.bn_momentum_decay, config.bn_momentum_step

    def on_train_epoch_start(self, trainer: L.Trainer, task: Any) -> None:
        """Set that of the epoch."""
        if self.decay is None:
            return
        momentum = batchnorm_momentum(trainer.current_epoch, self.decay, self.step)
        for layer in task.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum = momentum


def batchnorm_momentum(epoch: int, decay: float, step: int) -> float:
    """Share of a batch in the running statistics: 0.1, times ``decay`` every ``step`` epochs.

    It does not fall below 0.01. Part segmentation of Point-BERT halves it every 20 epochs.
    """
    return max(_LEAST, _FIRST * decay ** (epoch // step))
