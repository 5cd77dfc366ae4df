"""LoRA and its kin: methods of the library ``peft`` of Hugging Face, on every backbone.

Its layers take the place of linear layers and norms in the adapter's own view of the model, so the
trunk stays as it is. An adapter holds a folder ``hugging_face`` too, which that library loads:
``peft.PeftModel.from_pretrained(trunk, "adapter/hugging_face")``.
"""

import copy
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.models.network import Network
from pointpeft.optional import import_optional
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.saving import OTHERS

__all__ = [
    "DoRAConfig",
    "HuggingFaceConfig",
    "HuggingFaceTuner",
    "IA3Config",
    "LoRAConfig",
    "VeRAConfig",
    "from_theirs",
]

_LAYERS = r".*blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"
"""Linear layers of all blocks, on every backbone."""
_THEIR_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
_OF_RUNS = ("task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision")


@dataclass(frozen=True)
class HuggingFaceConfig(PeftConfig):
    """Any method of ``peft`` that acts on layers: ``peft_type``, and settings by their names there.

    Without ``target_modules`` it acts on the linear layers of all blocks.
    """

    method = "hugging-face"
    learning_rate = 2e-3
    fixed: ClassVar[dict[str, Any]] = {}  # what makes the method
    defaults: ClassVar[dict[str, Any]] = {"target_modules": _LAYERS, "peft_type": "LORA"}

    settings: dict[str, Any] = field(default_factory=dict)  # as in peft.r=8

    def __post_init__(self) -> None:
        self.theirs()

    def theirs(self) -> Any:
        """The config of ``peft`` itself.

        Raises:
            ConfigError: ``peft`` is not installed, or has no such method or setting.
        """
        settings = self.defaults | self.settings | self.fixed
        kinds = {str(kind.value): of for kind, of in _library("mapping").items()}
        name = str(settings.pop("peft_type", None)).upper()
        if name not in kinds:
            raise ConfigError(
                f"method {self.method!r} has no peft_type {name!r}: "
                f"{nearest_hint(name, list(kinds))}one of {', '.join(kinds)}"
            )
        defaults = {each.name: each.default for each in fields(kinds[name])}
        known = [key for key in kinds[name].__dataclass_fields__ if key not in _OF_RUNS]
        for key in settings:
            if key not in known:
                raise ConfigError(
                    f"method {self.method!r} has no setting {key!r}: "
                    f"{nearest_hint(_THEIR_NAMES.get(key, key), known)}"
                    f"settings: {', '.join(known)}"
                )
            if type(defaults.get(key)) is int and type(settings[key]) is not int:
                raise ConfigError(f"{key} must be an integer, got {settings[key]!r}")
        try:
            return kinds[name](**settings)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"method {self.method!r}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, with the method's name."""
        return {"method": self.method, **self.settings}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        return cls({key: value for key, value in settings.items() if key != "method"})


@dataclass(frozen=True)
class LoRAConfig(HuggingFaceConfig):
    """LoRA (Hu et al., ICLR 2022, arXiv 2106.09685); settings are those of ``peft.LoraConfig``."""

    method = "lora"
    fixed: ClassVar = {"peft_type": "LORA"}


@dataclass(frozen=True)
class DoRAConfig(HuggingFaceConfig):
    """DoRA (Liu et al., ICML 2024, arXiv 2402.09353): LoRA of directions, and magnitudes."""

    method = "dora"
    fixed: ClassVar = {"peft_type": "LORA", "use_dora": True}


@dataclass(frozen=True)
class IA3Config(HuggingFaceConfig):
    """IA3 (Liu et al., NeurIPS 2022, arXiv 2205.05638): learned scales of activations."""

    method = "ia3"
    learning_rate = 5e-3
    fixed: ClassVar = {"peft_type": "IA3"}
    defaults: ClassVar = {
        "target_modules": _LAYERS,
        "feedforward_modules": r".*blocks\.\d+\.mlp\.fc2",
    }


@dataclass(frozen=True)
class VeRAConfig(HuggingFaceConfig):
    """VeRA (Kopiczko et al., ICLR 2024, arXiv 2310.11454): scales between random projections."""

    method = "vera"
    learning_rate = 5e-3
    fixed: ClassVar = {"peft_type": "VERA"}
    defaults: ClassVar = {"target_modules": _LAYERS, "r": 64}


_OURS: tuple[type[HuggingFaceConfig], ...] = (DoRAConfig, LoRAConfig, IA3Config, VeRAConfig)


def from_theirs(config: Any) -> HuggingFaceConfig:
    """Our config for one of ``peft``, such as ``peft.LoraConfig(r=8)``."""
    name, empty = config.peft_type.value, type(config)()
    own = {"peft_type": name, "use_dora": getattr(config, "use_dora", False)}
    kind = next((k for k in _OURS if k.fixed.items() <= own.items()), HuggingFaceConfig)
    left_out = (*_OF_RUNS, "peft_type", "inference_mode", *kind.fixed)
    settings = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
        if key not in left_out and value != kind.defaults.get(key, getattr(empty, key))
    }
    if config.target_modules is None:  # ours
        settings.pop("target_modules", None)
    return kind(settings if kind.fixed else {"peft_type": name, **settings})


class HuggingFaceTuner(Tuner):
    """Trains the layers that ``peft`` adds, class token and head."""

    mergeable = True

    config: HuggingFaceConfig

    def __init__(self, model: Network, config: HuggingFaceConfig) -> None:
        super().__init__(model, config)
        self._trained: frozenset[str] = frozenset()
        self._wrapped: tuple[Any, ...] = ()  # in a tuple: its layers are those of the model

    def attach(self, model: Network) -> None:
        """Put the layers into the adapter's view of the model."""
        shared = {id(p) for p in model.backbone.parameters()}
        try:
            wrapped = _library("get_peft_model")(model.backbone, self.config.theirs())
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ConfigError(f"method {self.config.method!r}: {error}") from error
        trained = {n: p for n, p in model.backbone.named_parameters() if p.requires_grad}
        if of_trunk := [name for name, p in trained.items() if id(p) in shared]:
            raise ConfigError(
                f"method {self.config.method!r} would train {of_trunk[0]} of the shared encoder: "
                "leave `bias` at 'none'"
            )
        self._trained = frozenset(f"model.backbone.{name}" for name in trained)
        self._wrapped = (wrapped,)

    def trains(self, name: str) -> bool:
        """What was added, and all outside of the encoder."""
        return name in self._trained or not name.startswith("model.backbone.")

    def is_rebuilt(self, name: str) -> bool:
        """Random projections, which come from their seed."""
        return ".vera_A." in name or ".vera_B." in name

    def merged(self, model: Network) -> Network:
        """A plain model, in whose weights the layers are contained."""
        plain = copy.deepcopy(model)
        for name, layer in list(plain.backbone.named_modules()):
            if not isinstance(layer, _library("layer")):
                continue
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(plain.backbone.get_submodule(parent), child, layer.get_base_layer())
        return plain

    def save_extra(self, folder: Path) -> None:
        """The folder that ``peft`` loads."""
        (wrapped,) = self._wrapped
        wrapped.save_pretrained(folder / OTHERS)


def _library(what: str) -> Any:
    """What is needed of ``peft``, an optional dependency.

    Raises:
        ConfigError: it is not installed.
    """
    missing = "LoRA and its kin need the library peft: pip install 'pointpeft[lora]'"
    library = import_optional("peft", missing)
    if what == "mapping":
        return importlib.import_module("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING
    if what == "layer":
        return importlib.import_module("peft.tuners.tuners_utils").BaseTunerLayer
    return getattr(library, what)
