"""pointpeft: parameter-efficient fine-tuning of pre-trained 3D point-cloud transformers."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module; loaded on first access, so that importing the package is cheap.
_PUBLIC = {
    "create_model": "pointpeft.create",
    "list_models": "pointpeft.models",
    "save_model": "pointpeft.models",
    "build_classifier": "pointpeft.models",
    "MemoryBank": "pointpeft.peft",
    "get_peft_model": "pointpeft.peft",
    "list_methods": "pointpeft.peft",
    "load_adapter": "pointpeft.peft",
    "FullConfig": "pointpeft.peft",
    "HuggingFaceConfig": "pointpeft.peft",
    "KNNConfig": "pointpeft.peft",
    "LDAConfig": "pointpeft.peft",
    "SVMConfig": "pointpeft.peft",
    "AdapterConfig": "pointpeft.peft",
    "BitFitConfig": "pointpeft.peft",
    "DAPTConfig": "pointpeft.peft",
    "NormConfig": "pointpeft.peft",
    "PointGSTConfig": "pointpeft.peft",
    "PPTConfig": "pointpeft.peft",
    "VPTDeepConfig": "pointpeft.peft",
    "VPTShallowConfig": "pointpeft.peft",
    "IDPTConfig": "pointpeft.peft",
    "LinearConfig": "pointpeft.peft",
    "PointPeftConfig": "pointpeft.peft",
    "STAGConfig": "pointpeft.peft",
    "PeftConfig": "pointpeft.peft",
    "PeftModel": "pointpeft.peft",
    "Tuner": "pointpeft.peft",
    "register_method": "pointpeft.peft",
    "load_shapes": "pointpeft.data",
    "push_to_hub": "pointpeft.hub",
    "Trunk": "pointpeft.models.trunk",
    "export": "pointpeft.exporting",
    "embed": "pointpeft.measure",
    "Index": "pointpeft.measure",
    "PartPredictor": "pointpeft.measure",
    "Predictor": "pointpeft.measure",
    "FinetuneConfig": "pointpeft.training",
    "PretrainConfig": "pointpeft.training",
    "finetune": "pointpeft.training",
    "load_config": "pointpeft.training",
    "pretrain": "pointpeft.training",
    "InputTransform": "pointpeft.data",
}

__all__ = [
    "AdapterConfig",
    "BitFitConfig",
    "DAPTConfig",
    "FinetuneConfig",
    "FullConfig",
    "HuggingFaceConfig",
    "IDPTConfig",
    "Index",
    "InputTransform",
    "KNNConfig",
    "LDAConfig",
    "LinearConfig",
    "MemoryBank",
    "NormConfig",
    "PPTConfig",
    "PartPredictor",
    "PeftConfig",
    "PeftModel",
    "PointGSTConfig",
    "PointPeftConfig",
    "Predictor",
    "PretrainConfig",
    "STAGConfig",
    "SVMConfig",
    "Trunk",
    "Tuner",
    "VPTDeepConfig",
    "VPTShallowConfig",
    "build_classifier",
    "create_model",
    "embed",
    "export",
    "finetune",
    "get_peft_model",
    "list_methods",
    "list_models",
    "load_adapter",
    "load_config",
    "load_shapes",
    "pretrain",
    "push_to_hub",
    "register_method",
    "save_model",
]

if TYPE_CHECKING:
    from pointpeft.create import create_model
    from pointpeft.data import InputTransform, load_shapes
    from pointpeft.exporting import export
    from pointpeft.hub import push_to_hub
    from pointpeft.measure import Index, PartPredictor, Predictor, embed
    from pointpeft.models import build_classifier, list_models, save_model
    from pointpeft.models.trunk import Trunk
    from pointpeft.peft import (
        AdapterConfig,
        BitFitConfig,
        DAPTConfig,
        FullConfig,
        HuggingFaceConfig,
        IDPTConfig,
        KNNConfig,
        LDAConfig,
        LinearConfig,
        MemoryBank,
        NormConfig,
        PeftConfig,
        PeftModel,
        PointGSTConfig,
        PointPeftConfig,
        PPTConfig,
        STAGConfig,
        SVMConfig,
        Tuner,
        VPTDeepConfig,
        VPTShallowConfig,
        get_peft_model,
        list_methods,
        load_adapter,
        register_method,
    )
    from pointpeft.training import FinetuneConfig, PretrainConfig, finetune, load_config, pretrain


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pointpeft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
