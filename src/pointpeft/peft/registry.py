"""Tuning methods by name."""

import importlib
from typing import Any

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.peft.bitfit import BitFitConfig, BitFitTuner
from pointpeft.peft.bottleneck import AdapterConfig, AdapterTuner
from pointpeft.peft.dapt import DAPTConfig, DAPTTuner
from pointpeft.peft.discriminant import LDAConfig, LDATuner
from pointpeft.peft.full import FullConfig, FullTuner
from pointpeft.peft.hugging_face import (
    DoRAConfig,
    HuggingFaceConfig,
    HuggingFaceTuner,
    IA3Config,
    LoRAConfig,
    VeRAConfig,
)
from pointpeft.peft.idpt import IDPTConfig, IDPTTuner
from pointpeft.peft.knn import KNNConfig, KNNTuner
from pointpeft.peft.linear import LinearConfig, LinearTuner
from pointpeft.peft.linear_svm import SVMConfig, SVMTuner
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.norm_tuning import NormConfig, NormTuner
from pointpeft.peft.point_peft import PointPeftConfig, PointPeftTuner
from pointpeft.peft.pointgst import PointGSTConfig, PointGSTTuner
from pointpeft.peft.ppt import PPTConfig, PPTTuner
from pointpeft.peft.stag import STAGConfig, STAGTuner
from pointpeft.peft.vpt import VPTDeepConfig, VPTShallowConfig, VPTTuner

__all__ = ["config_class", "find_method", "list_methods", "register_method", "tuner_class"]

_METHODS: dict[str, tuple[type[PeftConfig], type[Tuner]]] = {
    config.method: (config, tuner)
    for config, tuner in (
        (FullConfig, FullTuner),
        (LinearConfig, LinearTuner),
        (SVMConfig, SVMTuner),
        (KNNConfig, KNNTuner),
        (LDAConfig, LDATuner),
        (BitFitConfig, BitFitTuner),
        (NormConfig, NormTuner),
        (VPTShallowConfig, VPTTuner),
        (VPTDeepConfig, VPTTuner),
        (AdapterConfig, AdapterTuner),
        (LoRAConfig, HuggingFaceTuner),
        (DoRAConfig, HuggingFaceTuner),
        (IA3Config, HuggingFaceTuner),
        (VeRAConfig, HuggingFaceTuner),
        (HuggingFaceConfig, HuggingFaceTuner),
        (PointPeftConfig, PointPeftTuner),
        (IDPTConfig, IDPTTuner),
        (DAPTConfig, DAPTTuner),
        (PointGSTConfig, PointGSTTuner),
        (STAGConfig, STAGTuner),
        (PPTConfig, PPTTuner),
    )
}


def register_method(config: type[PeftConfig], tuner: type[Tuner]) -> None:
    """Make a method known by ``config.method``; see :class:`PeftConfig` and :class:`Tuner`.

    A class that is defined again, as a notebook does, takes the place of what it was before.

    Raises:
        ConfigError: the name is empty, has a colon, or is that of another method.
    """
    name = config.method
    if not name or ":" in name:
        raise ConfigError(f"{config.__qualname__}.method is {name!r}: it must be a name, without :")
    known = _METHODS.get(name, (config,))[0]
    if (known.__module__, known.__qualname__) != (config.__module__, config.__qualname__):
        raise ConfigError(f"method name {name!r} is taken by {known.__module__}: take another one")
    _METHODS[name] = (config, tuner)


def list_methods() -> list[str]:
    """Names of the registered tuning methods."""
    return sorted(_METHODS)


def config_class(method: str) -> type[PeftConfig]:
    """The config class of a method.

    Raises:
        ConfigError: the method is unknown; the message proposes the nearest ones.
    """
    if method in _METHODS:
        return _METHODS[method][0]
    known = list_methods()
    name, _, settings = method.partition(",")
    if name in known:
        raise ConfigError(
            f"method {method!r}: settings stand beside it, such as peft.{settings.split(',')[0]}; "
            "in its name they are for `compare`"
        )
    raise ConfigError(
        f"unknown method {method!r}: {nearest_hint(method, known)}methods: {', '.join(known)}; one "
        "of your own is called my_package.module:MyConfig"
    )


def find_method(name: str) -> type[PeftConfig]:
    """The config class of a method, also of one that is not known yet.

    Args:
        name: of a registered method; or ``my_package.module:MyConfig``, a config class in a module
            that registers it. The module is imported, which runs its code.

    Raises:
        ConfigError: there is no such method, module or class, or the module does not register it.
    """
    if ":" not in name:
        return config_class(name)
    module, _, path = name.partition(":")
    try:
        kind: Any = getattr(importlib.import_module(module), path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"`method` {name}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, PeftConfig)):
        raise ConfigError(f"`method` {name}: {path} is no sub-class of pointpeft.PeftConfig")
    if _METHODS.get(kind.method, (None,))[0] is not kind:
        raise ConfigError(
            f"`method` {name}: {module} does not register it; it has to call "
            f"pointpeft.register_method({path}, MyTuner)"
        )
    return kind


def tuner_class(config: PeftConfig) -> type[Tuner]:
    """The tuner class of a config, whose method is registered."""
    from pointpeft.compat.methods import WITH_FAULTS  # here: they sub-class what is above

    config_class(config.method)
    if getattr(config, "reference_compat", False) and config.method in WITH_FAULTS:
        return WITH_FAULTS[config.method]
    return _METHODS[config.method][1]
