"""Optimiser and schedule shared by all tasks."""

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import nn

from pointpeft.compat.schedule import configure_rule
from pointpeft.training.config import OptimizerConfig

__all__ = ["configure_adamw", "learning_rate_factor", "parameter_groups", "with_cosine"]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: without decay and with it.

    Vectors (biases, norms) and tokens are not decayed.
    """
    trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    exempt = {name for name, p in trained if p.ndim == 1 or "token" in name.rpartition(".")[2]}
    return [
        {"params": [p for n, p in trained if n in exempt], "weight_decay": 0.0},
        {"params": [p for n, p in trained if n not in exempt], "weight_decay": weight_decay},
    ]


def learning_rate_factor(progress: float, warmup: float, floor: float) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1 of the training.

    A linear rise from ``floor`` over the first ``warmup`` share, then a cosine back to it.
    """
    if progress < warmup or warmup == 1:
        return floor + (1 - floor) * progress / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
    return floor + (1 - floor) * cosine


def with_cosine(config: OptimizerConfig, epochs: int) -> OptimizerConfig:
    """The settings with a cosine over all ``epochs`` asked for, unless they state its length."""
    return replace(config, cosine_epochs=config.cosine_epochs or epochs)


def configure_adamw(task: L.LightningModule, config: OptimizerConfig) -> dict[str, Any]:
    """AdamW on the trainable parameters, its rate set at every step.

    Another ``config.rule`` than "default" has a schedule of its own, which needs the length of its
    cosine, see :func:`with_cosine`.
    """
    assert config.lr is not None, "resolved by whoever knows the method"
    if config.rule != "default":
        return configure_rule(task, config)
    optimizer = torch.optim.AdamW(parameter_groups(task, config.weight_decay), lr=config.lr)
    total, floor = task.trainer.estimated_stepping_batches, config.min_lr / config.lr
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step / total, config.warmup, floor)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
