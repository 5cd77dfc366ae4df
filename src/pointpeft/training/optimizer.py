"""Optimiser and schedule shared by all tasks."""

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import nn

from pointpeft.training.config import OptimizerConfig

__all__ = [
    "configure_adamw",
    "learning_rate_factor",
    "parameter_groups",
    "published_learning_rate",
    "with_cosine",
]

_TOKENIZERS = ("tokenizers.", "decoder.propagations.")
"""Of hierarchical backbones: layers whose published names happen to have "token" in them."""


def parameter_groups(
    module: nn.Module, weight_decay: float, published: bool = False
) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: without decay and with it.

    Vectors (biases, norms) and tokens are not decayed; as published, all of the tokenizers and
    propagations of hierarchical backbones are not either.
    """
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            exempt = parameter.ndim == 1 or "token" in name.rpartition(".")[2]
            exempt |= published and any(layer in name for layer in _TOKENIZERS)
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


def with_cosine(config: OptimizerConfig, epochs: int) -> OptimizerConfig:
    """The settings with a cosine over all ``epochs`` asked for, unless they state its length."""
    return replace(config, cosine_epochs=config.cosine_epochs or epochs)


def published_learning_rate(epoch: int, config: OptimizerConfig) -> float:
    """The rate of a whole epoch as the published training loops set it.

    A linear rise over ``warmup_epochs``, then a cosine of length ``cosine_epochs`` that counts from
    the beginning, so that the rate falls a little where the rise ends. It lags an epoch behind:
    epochs 0 and 1 both have the lowest rate.
    """
    assert config.lr is not None, "resolved by whoever knows the method"
    assert config.cosine_epochs is not None, "see with_cosine"
    low, high, t = config.min_lr, config.lr, max(epoch - 1, 0)
    T, W = config.cosine_epochs, config.warmup_epochs
    if t < W:
        return low + t * (high - low) / W
    if epoch == 0 or t >= T:
        return low
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * t / T))


def configure_adamw(task: L.LightningModule, config: OptimizerConfig) -> dict[str, Any]:
    """AdamW on the trainable parameters, its rate set at every step, as published every epoch.

    The published rule needs the length of its cosine, see :func:`with_cosine`.
    """
    assert config.lr is not None, "resolved by whoever knows the method"
    lr, published = config.lr, config.rule == "published"
    groups = parameter_groups(task, config.weight_decay, published)
    optimizer = torch.optim.AdamW(groups, lr=lr)
    if published:
        factor = lambda epoch: published_learning_rate(epoch, config) / lr  # noqa: E731
    else:
        total, floor = task.trainer.estimated_stepping_batches, config.min_lr / lr
        factor = lambda step: learning_rate_factor(step / total, config.warmup, floor)  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    interval = "epoch" if published else "step"
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}
