"""Tuning methods, which stand beside the trunk; one file per method."""

from pointpeft.peft.adapter_config import read_adapter_config
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.bitfit import BitFitConfig
from pointpeft.peft.bottleneck import AdapterConfig
from pointpeft.peft.dapt import DAPTConfig
from pointpeft.peft.discriminant import LDAConfig
from pointpeft.peft.full import FullConfig
from pointpeft.peft.hugging_face import HuggingFaceConfig
from pointpeft.peft.idpt import IDPTConfig
from pointpeft.peft.knn import KNNConfig
from pointpeft.peft.linear import LinearConfig
from pointpeft.peft.linear_svm import SVMConfig
from pointpeft.peft.loading import load_adapter
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.model import PeftModel, get_peft_model
from pointpeft.peft.norm_tuning import NormConfig
from pointpeft.peft.point_peft import PointPeftConfig
from pointpeft.peft.pointgst import PointGSTConfig
from pointpeft.peft.ppt import PPTConfig
from pointpeft.peft.registry import config_class, find_method, list_methods, register_method
from pointpeft.peft.saving import resolve_adapter
from pointpeft.peft.stag import STAGConfig
from pointpeft.peft.vpt import VPTDeepConfig, VPTShallowConfig

__all__ = [
    "AdapterConfig",
    "BitFitConfig",
    "DAPTConfig",
    "FullConfig",
    "HuggingFaceConfig",
    "IDPTConfig",
    "KNNConfig",
    "LDAConfig",
    "LinearConfig",
    "MemoryBank",
    "NormConfig",
    "PPTConfig",
    "PeftConfig",
    "PeftModel",
    "PointGSTConfig",
    "PointPeftConfig",
    "STAGConfig",
    "SVMConfig",
    "Tuner",
    "VPTDeepConfig",
    "VPTShallowConfig",
    "config_class",
    "find_method",
    "get_peft_model",
    "list_methods",
    "load_adapter",
    "read_adapter_config",
    "register_method",
    "resolve_adapter",
]
