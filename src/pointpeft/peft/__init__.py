"""Tuning methods, which stand beside the trunk; one file per method."""

from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.full import FullConfig
from pointpeft.peft.idpt import IDPTConfig
from pointpeft.peft.linear import LinearConfig
from pointpeft.peft.loading import load_adapter
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.model import PeftModel, get_peft_model
from pointpeft.peft.point_peft import PointPeftConfig
from pointpeft.peft.registry import config_class, find_method, list_methods, register_method
from pointpeft.peft.saving import read_adapter_config, resolve_adapter
from pointpeft.peft.stag import STAGConfig

__all__ = [
    "FullConfig",
    "IDPTConfig",
    "LinearConfig",
    "MemoryBank",
    "PeftConfig",
    "PeftModel",
    "PointPeftConfig",
    "STAGConfig",
    "Tuner",
    "config_class",
    "find_method",
    "get_peft_model",
    "list_methods",
    "load_adapter",
    "read_adapter_config",
    "register_method",
    "resolve_adapter",
]
