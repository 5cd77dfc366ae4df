"""What an adapter remembers of its training shapes: their features by the frozen encoder."""

import torch

from pointpeft.data import ShapeData
from pointpeft.measure.scores import extract_features
from pointpeft.peft import MemoryBank, PeftModel
from pointpeft.peft.training_features import draw_by_class, training_features
from pointpeft.training.resolved import ResolvedRun

__all__ = ["frozen_training_features"]


def frozen_training_features(
    model: PeftModel, resolved: ResolvedRun, data: ShapeData
) -> MemoryBank | None:
    """Features of training shapes; None where the memory bank of the method has them all.

    Args:
        model: trained.
        resolved: the run.
        data: which it was trained on.
    """
    if model.bank is not None and not model.bank.has_prototypes:
        return None
    num_points = data.transform.num_points
    chosen = data.train.subset(draw_by_class(data.train.labels, seed=resolved.config.seed))
    chosen = resolved.protocol.in_order(chosen, num_points)
    points = torch.from_numpy(chosen.points)[:, :num_points]
    features = extract_features(
        model.trunk,
        points,
        lambda trunk, batch: model.tuner.frozen_features(trunk, trunk.tokenize(batch)),
    )
    ids = chosen.digests or chosen.ids
    return training_features(features, chosen.labels, ids, model.base_hash)
