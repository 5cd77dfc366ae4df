"""Optimiser and schedule shared by all tasks."""

import math
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import nn

from pointpeft.compat.schedule import configure_rule
from pointpeft.errors import ConfigError
from pointpeft.training.config import OptimizerConfig

__all__ = ["Schedule", "configure_adamw", "learning_rate_factor", "parameter_groups"]


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


@dataclass(frozen=True)
class Schedule:
    """Settings of the optimizer of which nothing is open.

    Attributes:
        lr: peak of the learning rate.
        cosine_epochs: length of the cosine, for rules that count in epochs.
        settings: all others.
    """

    lr: float
    cosine_epochs: int
    settings: OptimizerConfig

    @classmethod
    def of(cls, config: OptimizerConfig, epochs: int) -> "Schedule":
        """Of a run of so many epochs, over all of which the cosine goes unless it is stated.

        Raises:
            ConfigError: the learning rate is not given.
        """
        if config.lr is None:
            raise ConfigError("optimizer.lr must be given here; there is no method that it suits")
        return cls(config.lr, config.cosine_epochs or epochs, config)


def configure_adamw(task: L.LightningModule, schedule: Schedule) -> dict[str, Any]:
    """AdamW on the trainable parameters, its rate set at every step.

    Another ``rule`` than "default" has a schedule of its own.
    """
    c = schedule.settings
    if c.rule != "default":
        return configure_rule(task, schedule.lr, schedule.cosine_epochs, c)
    optimizer = torch.optim.AdamW(parameter_groups(task, c.weight_decay), lr=schedule.lr)
    total, floor = task.trainer.estimated_stepping_batches, c.min_lr / schedule.lr
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step / total, c.warmup, floor)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}
