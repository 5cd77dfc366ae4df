"""What an adapter remembers of its training shapes: their features by the frozen encoder."""

from pathlib import Path

import torch

from pointpeft.data import ShapeData
from pointpeft.measure.scores import extract_features
from pointpeft.peft import PeftModel
from pointpeft.peft.training_features import draw_by_class, write_training_features
from pointpeft.training.resolved import ResolvedRun

__all__ = ["remember_training_shapes"]


def remember_training_shapes(
    model: PeftModel, resolved: ResolvedRun, data: ShapeData, folder: str | Path
) -> None:
    """Write features of training shapes beside an adapter, unless it has a memory bank of them.

    Args:
        model: trained and saved.
        resolved: the run.
        data: which it was trained on.
        folder: of the adapter.
    """
    if model.bank is not None:
        return
    num_points = data.transform.num_points
    chosen = data.train.subset(draw_by_class(data.train.labels, seed=resolved.config.seed))
    chosen = resolved.protocol.in_order(chosen, num_points)
    points = torch.from_numpy(chosen.points)[:, :num_points]
    features = extract_features(model.trunk, points, model.tuner.frozen_features)  # type: ignore[arg-type]
    ids = chosen.digests or chosen.ids
    write_training_features(folder, features, chosen.labels, ids, model.base_hash)
