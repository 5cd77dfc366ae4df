"""Backbones, heads, checkpoints and the registry."""

from pointpeft.models.checkpoint import read_checkpoint
from pointpeft.models.factory import ModelSpec, build_backbone, build_classifier, create_model
from pointpeft.models.filling import load_into
from pointpeft.models.geometry import Geometry, Scale
from pointpeft.models.point_mae import Encoded, PointMAE, PointMAEClassifier
from pointpeft.models.point_mae_pretraining import PointMAEPretraining
from pointpeft.models.registry import get_entry, list_models
from pointpeft.models.safetensors_files import save_model, state_hash

__all__ = [
    "Encoded",
    "Geometry",
    "ModelSpec",
    "PointMAE",
    "PointMAEClassifier",
    "PointMAEPretraining",
    "Scale",
    "build_backbone",
    "build_classifier",
    "create_model",
    "get_entry",
    "list_models",
    "load_into",
    "read_checkpoint",
    "save_model",
    "state_hash",
]
