"""From our models to files that the published repositories load."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pointpeft.errors import ConfigError
from pointpeft.files import replacing
from pointpeft.models import save_model
from pointpeft.models.published import LAYOUTS, Layout, i2p_mae, point_m2ae
from pointpeft.peft.model import PeftModel
from pointpeft.peft.point_peft import PointPeftConfig
from pointpeft.peft.published import POINT_PEFT_MAE, point_peft_m2ae

__all__ = ["BANK", "ENCODER", "published_layout", "save_published"]

log = logging.getLogger("pointpeft")

BANK = "cache_shape.pt"
"""The memory bank beside a file of Point-PEFT, under the name that the published one has."""
ENCODER = "pretrain.safetensors"
"""The encoder beside it that makes the queries; published code takes its ``pretrain.pth``."""

_MODULE = "module."
"""Before every name, as the published repositories write and read it; not of part segmentation."""
_SCORES = {
    "test_acc": "test_accuracy",
    "class_avg_iou": "test_class_iou",
    "inctance_avg_iou": "test_instance_iou",
}
"""What a file of part segmentation says of itself, and our names for it."""


def save_published(
    model: Any, path: str | Path, epoch: int = 0, metrics: Mapping[str, Any] | None = None
) -> Layout:
    """Write a model as a ``.pth`` file with published names.

    Of Point-PEFT with a memory bank, beside it :data:`BANK` as published and :data:`ENCODER`, the
    frozen encoder in our form: the ``.pth`` holds neither.

    Args:
        model: a :class:`PeftModel` (full or linear tuning, or Point-PEFT with
            ``reference_compat=True``), or a model of ``create_model``.
        path: the file, replaced only when the new one is complete.
        epoch: of the weights.
        metrics: what was measured, 0 to 1, under the names of ``metrics.json``. The file repeats
            ``test_accuracy``, and of part segmentation both mean IoUs.

    Returns:
        The layout that was written.

    Raises:
        ConfigError: no published repository has such a model.
    """
    layout = published_layout(model)
    network = model
    if isinstance(model, PeftModel) and layout.attach is None:
        network = model.model
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.startswith(("tuner.bank.", "tuner.retriever."))
    }
    make = _segmentation_content if layout.task == "part_segmentation" else _content
    with replacing(path) as temporary:
        torch.save(make(layout.to_published(state), epoch, metrics or {}), temporary)
    log.info("%s: written as published, %s", path, layout.name)
    if layout.attach is not None and model.bank is not None:
        _save_retrieval(model, Path(path).parent)
    return layout


def _save_retrieval(model: Any, folder: Path) -> None:
    model.bank.export_published(folder / BANK)
    save_model(model.tuner.retriever, folder / ENCODER)
    log.info("%s: its memory bank, beside %s, which makes the queries", folder / BANK, ENCODER)


def _content(state: Mapping[str, Any], epoch: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    percent = 100 * (metrics.get("test_accuracy") or 0.0)
    return {
        "base_model": {_MODULE + name: tensor for name, tensor in state.items()},
        "optimizer": {},
        "epoch": epoch,
        "metrics": {"acc": percent},
        "best_metrics": {"acc": percent},
    }


def _segmentation_content(
    state: Mapping[str, Any], epoch: int, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """What the programs for part segmentation write, which are separate ones."""
    return {
        "model_state_dict": dict(state),
        "optimizer_state_dict": {},
        "epoch": epoch,
        **{theirs: metrics.get(ours) or 0.0 for theirs, ours in _SCORES.items()},
    }


def published_layout(model: Any) -> Layout:
    """The published layout of a model; of hierarchical ones in their own depths.

    Raises:
        ConfigError: there is none.
    """
    network = model.model if isinstance(model, PeftModel) else model
    backbone = getattr(network, "backbone", network)
    name = backbone.spec.name.removesuffix("_small")
    task = _task(network)
    several = len(getattr(backbone, "scales", ())) > 1
    if isinstance(model, PeftModel) and isinstance(model.config, PointPeftConfig):
        if not model.config.reference_compat or task != "classification" or name == "point_bert":
            raise ConfigError(
                "published repositories have Point-PEFT for classification on Point-MAE and "
                "Point-M2AE alone, and with reference_compat=True only"
            )
        return point_peft_m2ae(backbone.config.depths) if several else POINT_PEFT_MAE
    if several:
        depths = backbone.config.depths
        if task == "pretraining" and name == "i2p_mae":
            return i2p_mae.pretrained_layout(depths)
        makers = {
            "pretraining": point_m2ae.pretrained_layout,
            "classification": point_m2ae.classification_layout,
            "part_segmentation": point_m2ae.segmentation_layout,
        }
        if task in makers:
            return makers[task](depths)
    for layout in LAYOUTS:
        if (layout.model, layout.task) == (name, task) and layout.attach is None:
            return layout
    raise ConfigError(f"no published repository keeps {name!r} for {task} in a file of its own")


def _task(network: Any) -> str:
    kinds = {
        "retrieval_features": "features",
        "num_parts": "part_segmentation",
        "num_classes": "classification",
    }
    return next((task for name, task in kinds.items() if hasattr(network, name)), "pretraining")
