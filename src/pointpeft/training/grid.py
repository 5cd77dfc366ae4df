"""What is compared: methods, backbones, data sets, numbers of shapes and seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pointpeft.data.shapes import check_source
from pointpeft.errors import ConfigError, check_choices
from pointpeft.files import file_name
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.sources import RANDOM, check_sources

__all__ = ["ENGINES", "Comparison", "backbone_label", "data_label", "split_method"]

ENGINES = ("processes", "ray")
"""What runs the grid: processes of this machine, or tasks of the library Ray."""


@dataclass(frozen=True)
class Comparison:
    """A grid of runs on equal terms: equal epochs, and an equal search for the learning rate.

    Attributes:
        settings: what all runs share, their epochs among it. ``seed`` is the first seed. With
            ``optimizer.lr`` all methods start from that rate instead of each from its own.
        methods: their names, with settings of their own behind a comma: "lora" or "lora,r=4". None:
            svm, where a shape has one class, linear and point-peft.
        models: names of backbones.
        checkpoints: weights of each of them, in the same order.
        data: data sets, as in ``data.source``.
        shots: labelled training shapes of each class; None: all of them.
        lr_factors: times the learning rate of the method. Which one is best is measured on the
            validation split with the first seed; a single one is taken as it is.
        seeds: how many runs there are with the best factor.

    Raises:
        ConfigError: a list is empty or repeats itself, a number is out of range, or the settings
            ask for what is not compared, such as episodes.
    """

    settings: FinetuneConfig = field(default_factory=FinetuneConfig)
    methods: tuple[str, ...] | None = None
    models: tuple[str, ...] = ("point_mae_small",)
    checkpoints: tuple[str | None, ...] = (None,)
    data: tuple[str, ...] = ("homeobjects",)
    shots: tuple[int | None, ...] = (None,)
    lr_factors: tuple[float, ...] = (0.33, 1.0, 3.0)
    seeds: int = 1

    def __post_init__(self) -> None:
        check_choices(self.settings, ["protocol"], ("honest",))
        if self.settings.method is not None or self.settings.seeds != 1:
            raise ConfigError(
                "`method` and `seeds` of a comparison are its own, which may be several: leave "
                "method and seeds out of its settings"
            )
        if self.settings.few_shot.way is not None:
            raise ConfigError("few_shot.way draws episodes, which are not compared; use `shots`")
        if self.settings.trainer.devices not in ("auto", "1"):
            raise ConfigError(
                f"trainer.devices={self.settings.trainer.devices}: each run takes one device; "
                "`jobs` says how many there are at a time"
            )
        if self.seeds < 1:
            raise ConfigError(f"`seeds` must be at least 1, got {self.seeds}")
        if any(number is not None and number < 1 for number in self.shots):
            raise ConfigError(f"`shots` must be at least 1, or all; got {list(self.shots)}")
        if not all(0 < factor < float("inf") for factor in self.lr_factors):
            raise ConfigError(f"`lr_factor` must be positive, got {list(self.lr_factors)}")
        if len(self.checkpoints) != len(self.models):
            raise ConfigError(
                f"`checkpoint` is given {len(self.checkpoints)} times and `model` "
                f"{len(self.models)} times: each model needs weights of its own"
            )
        variant = self.settings.data.variant
        if "" in (self.methods or ()):
            raise ConfigError("`method` must be the name of a method, got ''")
        if self.methods is not None:
            _check_list("method", [file_name(method) for method in self.methods])
        _check_list("model", [backbone_label(*each) for each in self.backbones])
        _check_list("data", [data_label(each, variant) for each in self.data])
        _check_list("shots", self.shots)
        _check_list("lr_factor", self.lr_factors)

    @property
    def chosen_methods(self) -> tuple[str, ...]:
        """Those that are asked for, or the first ones to try."""
        if self.methods is not None:
            return self.methods
        from pointpeft.tasks.table import find_task  # here: it is slow to import

        first = ("svm",) if find_task(self.settings.task).votes else ()
        return (*first, "linear", "point-peft")

    @property
    def backbones(self) -> list[tuple[str, str | None]]:
        """Models with their weights."""
        return list(zip(self.models, self.checkpoints, strict=True))

    def check_sources(self) -> None:
        """Refuse data or weights that are plainly not there; none of them is read.

        Raises:
            DataError: there is no such data.
            CheckpointError: there are no such weights.
        """
        for source in self.data:
            check_source(source, self.settings.data.variant)
        for model, checkpoint in self.backbones:
            check_sources(replace(self.settings, model=model, checkpoint=checkpoint))


def _check_list(name: str, labels: Sequence[Any]) -> None:
    if not labels:
        raise ConfigError(f"`{name}`: nothing to compare, name at least one")
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"`{name}`: {label or 'all'} is given twice, or two are called so")


def split_method(text: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of a method that is written "lora,r=4"."""
    name, *settings = re.split(r",(?=[^,=]+=)", text)
    found: Any = OmegaConf.to_container(OmegaConf.from_dotlist(settings))
    return name, found


def data_label(source: str, variant: str | None) -> str:
    """What results and folders call a data set: its last name, which tells nothing of a machine."""
    name = Path(source).name.removesuffix(".npz")
    return file_name(f"{name}-{variant}" if variant else name)


def backbone_label(model: str, checkpoint: str | None) -> str:
    """What they call a backbone: its model, and its weights where they are given."""
    if checkpoint in (None, "embedded"):
        return model
    name = checkpoint if checkpoint == RANDOM else Path(str(checkpoint)).stem
    return file_name(f"{model}-{name}")
