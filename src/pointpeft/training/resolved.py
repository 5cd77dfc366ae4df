"""A fine-tuning run of which nothing is open any more."""

from dataclasses import dataclass, replace

from pointpeft.compat.protocol import find_protocol
from pointpeft.errors import ConfigError
from pointpeft.peft import PeftConfig, find_method
from pointpeft.peft.method import FittedConfig
from pointpeft.tasks.table import find_task
from pointpeft.tasks.task import Task
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.optimizer import Schedule
from pointpeft.training.protocol import Protocol

__all__ = ["ResolvedRun"]

_FITTED_HEAD = 0.01
"""Share of its rate that a head learns with that was fitted: a faster one forgets the fit."""


@dataclass(frozen=True)
class ResolvedRun:
    """What a config asks for, decided once; everything behind :func:`pointpeft.finetune` takes it.

    Attributes:
        config: the settings, with what was left open filled in; a run folder records them.
        task: what is trained for.
        protocol: how data is read, epochs are chosen and shapes are measured.
        method: settings of the tuning method.
        schedule: of the optimizer.
    """

    config: FinetuneConfig
    task: Task
    protocol: Protocol
    method: PeftConfig
    schedule: Schedule

    @classmethod
    def of(cls, config: FinetuneConfig) -> "ResolvedRun":
        """Decide what suits task, method and protocol where the config leaves it open.

        Raises:
            ConfigError: an unknown task, protocol, method or setting, or settings that exclude each
                other.
        """
        task, protocol = find_task(config.task), find_protocol(config.protocol)
        for key, asked in (("votes", config.votes), ("few_shot.way", config.few_shot.way)):
            if asked and not task.votes:
                raise ConfigError(f"{key} is for classification, not for {task.name}")
        name = config.method or task.method
        config = protocol.resolve(replace(config, method=name))
        method = find_method(name).from_dict(config.peft)
        if method.fitted and not task.votes:
            raise ConfigError(f"method={name} is for classification, not for {task.name}")
        if method.fitted and config.class_weights != "none":
            if not isinstance(method, FittedConfig):
                raise ConfigError(f"class_weights: method={name} has no such setting")
            method = replace(method, class_weights=config.class_weights)
        lr = config.optimizer.lr or task.learning_rate(method, config.protocol)
        augmentation = config.data.augmentation or task.augmentation
        config = replace(
            config,
            optimizer=replace(config.optimizer, lr=lr),
            data=replace(config.data, augmentation=augmentation),
        )
        optimizer = config.optimizer
        if method.head == "lda":
            factor = optimizer.head_lr_factor * _FITTED_HEAD
            least = min(optimizer.min_lr, lr * factor)
            optimizer = replace(optimizer, head_lr_factor=factor, min_lr=least)
        schedule = Schedule.of(optimizer, config.trainer.epochs)
        return cls(config, task, protocol, method, schedule)

    def having(self, config: FinetuneConfig) -> "ResolvedRun":
        """The same run with another seed, fold or source of data."""
        return replace(self, config=config)
