"""What the registry knows of a model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

__all__ = ["ModelEntry", "Preset", "Task"]

Task = Literal["features", "classification", "part_segmentation", "pretraining"]
"""What a model is built for, see :func:`pointpeft.create_model`."""


@dataclass(frozen=True)
class Preset:
    """Sizes of the papers for one data set.

    Attributes:
        num_points: points per cloud that the model expects.
        overrides: settings of the model that differ from the entry's own.
        normalize: how clouds are normalised: "unit_ball", or "none" where they stay as stored.
    """

    num_points: int
    overrides: dict[str, Any] = field(default_factory=dict)
    normalize: str = "unit_ball"


@dataclass(frozen=True)
class ModelEntry:
    """One name of the registry.

    Attributes:
        name: what :func:`pointpeft.create_model` is called with.
        summary: one line for listings.
        paper: where the network was published.
        licence: terms of the released weights.
        config: settings without a preset.
        num_points: points per cloud without a preset.
        normalize: how clouds are normalised without a preset, as in :class:`Preset`.
        presets: sizes of the papers by data set name.
        reported: reported accuracies in percent, by data set.
        configs: experiments of the papers with it, patterns of files below the folder of configs.
        up_axis: axis that points up in the clouds it was pre-trained on.
        backbone: builds the encoder from ``config``; None where there is none.
        classifier: builds the classification model from an encoder and a class count.
        segmenter: builds the part-segmentation model from an encoder, a number of parts and a
            number of categories.
        pretraining: builds the pre-training model from an encoder and ``pretraining_config``.
        pretraining_config: settings of pre-training.
        tokenizer: builds, from ``config``, a network that is pre-trained by itself.
    """

    name: str
    summary: str
    paper: str
    licence: str
    config: Any
    num_points: int
    presets: dict[str, Preset] = field(default_factory=dict)
    backbone: Callable[[Any], nn.Module] | None = None
    classifier: Callable[[Any, int], nn.Module] | None = None
    segmenter: Callable[[Any, int, int], nn.Module] | None = None
    pretraining: Callable[[Any, Any], nn.Module] | None = None
    pretraining_config: Any = None
    tokenizer: Callable[[Any], nn.Module] | None = None
    reported: dict[str, float] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    up_axis: str = "y"
    normalize: str = "unit_ball"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the entry has a network for."""
        builders = {
            "features": self.backbone,
            "classification": self.classifier,
            "part_segmentation": self.segmenter,
            "pretraining": self.pretraining or self.tokenizer,
        }
        return tuple(task for task, builder in builders.items() if builder is not None)
