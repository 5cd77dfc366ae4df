"""What the published training loops schedule: learning rate, weight decay, BatchNorm's momentum."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.nn.modules.batchnorm import _BatchNorm

from pointpeft.models.heads import is_of_head
from pointpeft.training.config import OptimizerConfig

__all__ = [
    "BatchNormMomentum",
    "batchnorm_momentum",
    "configure_rule",
    "published_groups",
    "published_learning_rate",
]

_TOKENIZERS = ("tokenizers.", "decoder.propagations.")
"""Of hierarchical backbones: layers whose published names happen to have "token" in them."""


def published_learning_rate(
    epoch: int, lr: float, cosine_epochs: int, config: OptimizerConfig
) -> float:
    """The rate of a whole epoch as the published training loops set it.

    A linear rise over ``warmup_epochs``, then a cosine of length ``cosine_epochs`` that counts from
    the beginning, so that the rate falls a little where the rise ends. It lags an epoch behind:
    epochs 0 and 1 both have the lowest rate.
    """
    low, t = config.min_lr, max(epoch - 1, 0)
    T, W = cosine_epochs, config.warmup_epochs
    if t < W:
        return low + t * (lr - low) / W
    if epoch == 0 or t >= T:
        return low
    return low + 0.5 * (lr - low) * (1 + math.cos(math.pi * t / T))


def published_groups(
    module: torch.nn.Module, weight_decay: float, head_apart: bool = False
) -> list[dict[str, Any]]:
    """Trainable parameters without decay and with it.

    Vectors and tokens are not decayed, and nothing of the tokenizers and propagations of
    hierarchical backbones is. With ``head_apart`` the head and the class token are a third group,
    all of which is decayed, as in PCP-MAE's code.
    """
    plain: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    head: list[torch.nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and head_apart and is_of_head(name):
            head.append(parameter)
        elif parameter.requires_grad:
            exempt = parameter.ndim == 1 or "token" in name.rpartition(".")[2]
            exempt |= any(layer in name for layer in _TOKENIZERS)
            (plain if exempt else decayed).append(parameter)
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
        *([{"params": head, "weight_decay": weight_decay}] if head_apart else []),
    ]


def configure_rule(
    task: L.LightningModule, lr: float, cosine_epochs: int, config: OptimizerConfig
) -> OptimizerLRSchedulerConfig:
    """AdamW on the trainable parameters, its rate set at every epoch."""
    factor = config.head_lr_factor
    groups = published_groups(task, config.weight_decay, head_apart=factor != 1)
    for group in groups[2:]:
        group["lr"] = lr * factor
    optimizer = torch.optim.AdamW(groups, lr=lr)

    def course(lr: float) -> Callable[[int], float]:
        return lambda epoch: published_learning_rate(epoch, lr, cosine_epochs, config) / lr

    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, [course(group["lr"]) for group in optimizer.param_groups]
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "epoch"}}


_FIRST, _LEAST = 0.1, 0.01


class BatchNormMomentum(L.Callback):
    """Sets the momentum of all BatchNorm layers at the beginning of every epoch.

    Args:
        config: ``bn_momentum_decay``, without which nothing is set, and ``bn_momentum_step``.
    """

    def __init__(self, config: OptimizerConfig) -> None:
        self.decay, self.step = config.bn_momentum_decay, config.bn_momentum_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set that of the epoch."""
        if self.decay is None:
            return
        momentum = batchnorm_momentum(trainer.current_epoch, self.decay, self.step)
        for layer in pl_module.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum = momentum

    on_train_start = on_train_epoch_start  # also where a run goes on in the middle of an epoch


def batchnorm_momentum(epoch: int, decay: float, step: int) -> float:
    """Share of a batch in the running statistics: 0.1, times ``decay`` every ``step`` epochs.

    It does not fall below 0.01. Part segmentation of Point-BERT halves it every 20 epochs.
    """
    return max(_LEAST, _FIRST * decay ** (epoch // step))
