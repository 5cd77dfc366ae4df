"""Optimiser and schedule shared by all tasks."""

import math
from typing import Any

import lightning as L
import torch
from torch import nn

from pointpeft.tasks.config import OptimizerConfig

__all__ = ["configure_adamw", "learning_rate_factor", "parameter_groups"]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups, as published: without decay and with it.

    Vectors (biases, norms) and tokens are not decayed.
    """
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            exempt = parameter.ndim == 1 or "token" in name.rpartition(".")[2]
            (plain if exempt else decayed).append(parameter)
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
    ]


def learning_rate_factor(progress: float, warmup: float, floor: float) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1 of the training.

    A linear rise from ``floor`` over the first ``warmup`` share, then a cosine back to it.
    """
    if progress < warmup or warmup == 1:
        return floor + (1 - floor) * progress / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
    return floor + (1 - floor) * cosine


def configure_adamw(task: L.LightningModule, config: OptimizerConfig) -> dict[str, Any]:
    """AdamW on the trainable parameters, its learning rate set at every step."""
    assert config.lr is not None, "resolved by whoever knows the method"
    floor = config.min_lr / config.lr
    groups = parameter_groups(task, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr)
    total = task.trainer.estimated_stepping_batches
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(step / total, config.warmup, floor),
    )
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": schedule, "interval": "step"},
    }
