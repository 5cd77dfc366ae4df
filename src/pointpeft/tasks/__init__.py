"""Training: pre-training and fine-tuning runs, and the folders that they fill."""

import importlib
from typing import TYPE_CHECKING, Any

# Public name -> module; loaded on first access: settings are checked before Lightning is there.
_PUBLIC = {
    "FinetuneConfig": "pointpeft.tasks.config",
    "PretrainConfig": "pointpeft.tasks.config",
    "SvmConfig": "pointpeft.tasks.config",
    "load_config": "pointpeft.tasks.config_files",
    "evaluate_backbone": "pointpeft.tasks.svm",
    "finetune": "pointpeft.tasks.finetuning",
    "pretrain": "pointpeft.tasks.pretraining",
}

__all__ = [
    "FinetuneConfig",
    "PretrainConfig",
    "SvmConfig",
    "evaluate_backbone",
    "finetune",
    "load_config",
    "pretrain",
]

if TYPE_CHECKING:
    from pointpeft.tasks.config import FinetuneConfig, PretrainConfig, SvmConfig
    from pointpeft.tasks.config_files import load_config
    from pointpeft.tasks.finetuning import finetune
    from pointpeft.tasks.pretraining import pretrain
    from pointpeft.tasks.svm import evaluate_backbone


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pointpeft.tasks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
