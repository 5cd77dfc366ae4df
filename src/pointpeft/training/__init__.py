"""Training: pre-training and fine-tuning runs, and the folders that they fill."""

import importlib
from typing import TYPE_CHECKING, Any

# Public name -> module; loaded on first access: settings are checked before Lightning is there.
_PUBLIC = {
    "FinetuneConfig": "pointpeft.training.config",
    "Comparison": "pointpeft.training.grid",
    "PretrainConfig": "pointpeft.training.config",
    "SvmConfig": "pointpeft.training.config",
    "load_config": "pointpeft.training.config_files",
    "compare": "pointpeft.training.comparison",
    "evaluate_backbone": "pointpeft.measure.backbone_svm",
    "finetune": "pointpeft.training.finetuning",
    "pretrain": "pointpeft.training.pretraining",
}

__all__ = [
    "Comparison",
    "FinetuneConfig",
    "PretrainConfig",
    "SvmConfig",
    "compare",
    "evaluate_backbone",
    "finetune",
    "load_config",
    "pretrain",
]

if TYPE_CHECKING:
    from pointpeft.measure.backbone_svm import evaluate_backbone
    from pointpeft.training.comparison import compare
    from pointpeft.training.config import FinetuneConfig, PretrainConfig, SvmConfig
    from pointpeft.training.config_files import load_config
    from pointpeft.training.finetuning import finetune
    from pointpeft.training.grid import Comparison
    from pointpeft.training.pretraining import pretrain


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pointpeft.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
