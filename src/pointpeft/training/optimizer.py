"""Optimiser and schedule shared by all tasks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from pointpeft.compat.schedule import configure_rule
from pointpeft.errors import ConfigError
from pointpeft.models.heads import is_of_head
from pointpeft.training.config import OptimizerConfig

__all__ = ["Schedule", "configure_adamw", "learning_rate_factor", "parameter_groups"]


def parameter_groups(
    module: nn.Module, weight_decay: float, head_apart: bool = False
) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: without decay and with it.

    Vectors (biases, norms) and tokens are not decayed. With ``head_apart`` two more groups follow,
    those of the head and the class token.
    """
    trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    exempt = {name for name, p in trained if p.ndim == 1 or "token" in name.rpartition(".")[2]}
    apart = {name for name, _ in trained if head_apart and is_of_head(name)}
    return [
        {
            "params": [p for n, p in trained if (n in exempt) == spared and (n in apart) == head],
            "weight_decay": 0.0 if spared else weight_decay,
        }
        for head in ((False, True) if head_apart else (False,))
        for spared in (True, False)
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


def configure_adamw(task: L.LightningModule, schedule: Schedule) -> OptimizerLRSchedulerConfig:
    """AdamW on the trainable parameters, its rate set at every step.

    Another ``rule`` than "default" has a schedule of its own.
    """
    c = schedule.settings
    if c.rule != "default":
        return configure_rule(task, schedule.lr, schedule.cosine_epochs, c)
    groups = parameter_groups(task, c.weight_decay, head_apart=c.head_lr_factor != 1)
    for group in groups[2:]:
        group["lr"] = schedule.lr * c.head_lr_factor
    optimizer = torch.optim.AdamW(groups, lr=schedule.lr)
    total = task.trainer.estimated_stepping_batches

    def course(lr: float) -> Callable[[int], float]:
        return lambda step: learning_rate_factor(step / total, c.warmup, c.min_lr / lr)

    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, [course(group["lr"]) for group in optimizer.param_groups]
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}
