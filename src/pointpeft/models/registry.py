"""Names of models and what each of them stands for."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.models.point_mae import (
    PointMAE,
    PointMAEClassifier,
    PointMAEConfig,
    PointMAEPretraining,
    PointMAEPretrainingConfig,
)
from pointpeft.models.segmentation.point_mae import PointMAEPartSegmenter

__all__ = ["ModelEntry", "Preset", "Task", "get_entry", "list_models"]

Task = Literal["features", "classification", "part_segmentation", "pretraining"]


@dataclass(frozen=True)
class Preset:
    """Published sizes for one data set.

    Attributes:
        num_points: points per cloud that the model expects.
        overrides: settings of the model that differ from the entry's own.
    """

    num_points: int
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelEntry:
    """One name of the registry.

    Attributes:
        name: what :func:`pointpeft.create_model` is called with.
        summary: one line for listings.
        paper: where the network was published.
        licence: terms of the published weights.
        config: settings without a preset.
        num_points: points per cloud without a preset; clouds lie in the unit ball, y up.
        presets: published sizes by data set name.
        published: published accuracies in percent, by data set.
        backbone: builds the encoder from ``config``.
        classifier: builds the classification model from an encoder and a class count.
        segmenter: builds the part-segmentation model from an encoder, a number of parts and a
            number of categories.
        pretraining: builds the pre-training model from an encoder and ``pretraining_config``.
        pretraining_config: settings of pre-training.
    """

    name: str
    summary: str
    paper: str
    licence: str
    config: Any
    num_points: int
    presets: dict[str, Preset]
    backbone: Callable[[Any], nn.Module]
    classifier: Callable[[Any, int], nn.Module]
    segmenter: Callable[[Any, int, int], nn.Module]
    pretraining: Callable[[Any, Any], nn.Module]
    pretraining_config: Any
    published: dict[str, float] = field(default_factory=dict)


POINT_MAE = ModelEntry(
    name="point_mae",
    summary="Point-MAE as published: 12 blocks of 384 channels",
    paper="Pang et al., Masked Autoencoders for Point Cloud Self-supervised Learning, ECCV 2022, "
    "arXiv 2203.06604",
    licence="published weights: MIT (Point-MAE repository)",
    config=PointMAEConfig(),
    num_points=1024,
    presets={
        "modelnet40": Preset(1024, {"skip_near_origin": True}),
        "scanobjectnn": Preset(2048, {"num_groups": 128, "skip_near_origin": True}),
        "shapenetpart": Preset(2048, {"num_groups": 128, "skip_near_origin": True}),
    },
    backbone=PointMAE,
    classifier=PointMAEClassifier,
    segmenter=PointMAEPartSegmenter,
    pretraining=PointMAEPretraining,
    pretraining_config=PointMAEPretrainingConfig(),
    published={
        "ScanObjectNN PB-T50-RS": 85.18,
        "ScanObjectNN OBJ-BG": 90.02,
        "ScanObjectNN OBJ-ONLY": 88.29,
        "ModelNet40": 93.80,
    },
)

POINT_MAE_SMALL = dataclasses.replace(
    POINT_MAE,
    name="point_mae_small",
    summary="Point-MAE narrowed for CPUs: 6 blocks of 192 channels, 48 patches, slim mini-PointNet",
    licence="no published weights",
    config=PointMAEConfig(
        num_groups=48, group_size=32, dim=192, depth=6, num_heads=6, patch_widths=(32, 64, 96)
    ),
    presets={},
    pretraining_config=PointMAEPretrainingConfig(decoder_depth=2, embed_masked=False),
    published={},
)

_ENTRIES = {entry.name: entry for entry in (POINT_MAE, POINT_MAE_SMALL)}


def list_models() -> list[str]:
    """Names that :func:`pointpeft.create_model` accepts."""
    return sorted(_ENTRIES)


def get_entry(name: str) -> ModelEntry:
    """The registry entry called ``name``.

    Raises:
        ConfigError: the name is unknown; the message proposes the nearest ones.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    known = list_models()
    raise ConfigError(
        f"unknown model {name!r}: {nearest_hint(name, known)}known models: {', '.join(known)}"
    )
