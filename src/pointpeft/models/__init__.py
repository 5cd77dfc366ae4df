"""Backbones, heads, weights and the registry."""

from pointpeft.models.loadable import ModelSpec
from pointpeft.models.network import Network
from pointpeft.models.point_mae import Encoded, PointMAE, PointMAEClassifier
from pointpeft.models.point_mae_pretraining import PointMAEPretraining
from pointpeft.models.registry import (
    build_backbone,
    build_classifier,
    build_segmenter,
    get_entry,
    list_models,
)
from pointpeft.models.safetensors_files import save_model, state_hash
from pointpeft.models.trunk import Geometry, Scale

__all__ = [
    "Encoded",
    "Geometry",
    "ModelSpec",
    "Network",
    "PointMAE",
    "PointMAEClassifier",
    "PointMAEPretraining",
    "Scale",
    "build_backbone",
    "build_classifier",
    "build_segmenter",
    "get_entry",
    "list_models",
    "save_model",
    "state_hash",
]
