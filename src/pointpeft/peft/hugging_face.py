"""LoRA and its kin: methods of the library ``peft`` of Hugging Face, on every backbone.

Its layers take the place of linear layers and norms in the adapter's own view of the model, so the
trunk stays as it is. An adapter holds a folder ``hugging_face`` too, which that library loads:
``peft.PeftModel.from_pretrained(trunk, "adapter/hugging_face")``.
"""

import copy
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.models.network import Network
from pointpeft.models.trunk import Trunk
from pointpeft.optional import import_optional
from pointpeft.peft.frozen_pass import FrozenStreams
from pointpeft.peft.method import Constants, PeftConfig, Tuner
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
_BLOCK = re.compile(r"model\.backbone\.blocks\.(\d+)\.")
_FEEDFORWARD = r".*blocks\.\d+\.mlp\.fc2"
"""Of them, those whose input IA3 scales, not their output."""
_THEIR_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
_WITH_A_LOOP = ("ADALORA",)
"""Methods that ask for calls between the steps of training, which a run does not make."""
_WRONG = (TypeError, ValueError, AttributeError, LookupError, RuntimeError)
"""What ``peft`` raises where a method does not suit a model."""
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
            ConfigError: ``peft`` is not installed, has no such method or setting, or the method
                acts on no layers.
        """
        settings = self.defaults | self.settings | self.fixed
        kind = _kind(self.method, str(settings.pop("peft_type", None)).upper())
        defaults = {each.name: each.default for each in fields(kind)}
        known = [key for key in kind.__dataclass_fields__ if key not in _OF_RUNS]
        if "feedforward_modules" in known:
            settings.setdefault("feedforward_modules", _FEEDFORWARD)
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
            return kind(**settings)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"method {self.method!r}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, with the method's name."""
        head = {} if self.head == "mlp" else {"head": self.head}
        return {"method": self.method, **self.settings, **head}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        theirs = {key: v for key, v in settings.items() if key not in ("method", "head")}
        return cls(theirs, head=settings.get("head", "mlp"))


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


@dataclass(frozen=True)
class VeRAConfig(HuggingFaceConfig):
    """VeRA (Kopiczko et al., ICLR 2024, arXiv 2310.11454): scales between random projections."""

    method = "vera"
    learning_rate = 5e-3
    fixed: ClassVar = {"peft_type": "VERA"}
    defaults: ClassVar = {"target_modules": _LAYERS, "r": 64}


_OURS: tuple[type[HuggingFaceConfig], ...] = (DoRAConfig, LoRAConfig, IA3Config, VeRAConfig)


def from_theirs(config: Any) -> HuggingFaceConfig:
    """Our config for one of ``peft``, such as ``peft.LoraConfig(r=8)``.

    Raises:
        ConfigError: its method acts on no layers.
    """
    name = str(config.peft_type.value)
    empty = _kind(HuggingFaceConfig.method, name)()
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
        theirs = self.config.theirs()
        kind = f"method {self.config.method!r}, peft_type={theirs.peft_type.value}"
        try:
            wrapped = _library("get_peft_model")(model.backbone, theirs)
            _try_layers(model.backbone)
        except (*_WRONG, NotImplementedError) as error:
            raise ConfigError(f"{kind} does not suit the model: {error}") from error
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

    def frozen_blocks(self, model: Network) -> int:
        """Those before the first one with a layer, which `target_modules` may name."""
        places = [_BLOCK.match(name) for name in self._trained]
        return min((int(found[1]) if found else 0 for found in places), default=0)

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """The stream that enters the first layer, and those that are looked at."""
        return {"points": self.looked_at(model, frozen)}

    def is_rebuilt(self, name: str) -> bool:
        """Random projections, which come from their seed."""
        return ".vera_A." in name or ".vera_B." in name

    def merged(self, model: Network) -> Network:
        """A plain model, in whose weights the layers are contained."""
        plain = copy.deepcopy(model)
        for name, layer in list(plain.backbone.named_modules()):
            if not isinstance(layer, _library("layer")):
                continue
            try:
                layer.merge()
            except (*_WRONG, NotImplementedError) as error:
                raise ConfigError(
                    f"method {self.config.method!r} cannot be merged: {error}"
                ) from error
            parent, _, child = name.rpartition(".")
            setattr(plain.backbone.get_submodule(parent), child, layer.get_base_layer())
        return plain

    def save_extra(self, folder: Path) -> None:
        """The folder that ``peft`` loads."""
        (wrapped,) = self._wrapped
        wrapped.save_pretrained(folder / OTHERS)


def _kind(method: str, name: str) -> type[Any]:
    """The config class of ``peft`` for a ``peft_type``, of a method that acts on layers.

    Raises:
        ConfigError: there is none.
    """
    kinds = {str(kind.value): of for kind, of in _library("mapping").items()}
    usable = [
        each
        for each, of in kinds.items()
        if "target_modules" in of.__dataclass_fields__ and each not in _WITH_A_LOOP
    ]
    if name in usable:
        return kinds[name]
    if name in _WITH_A_LOOP:
        why = f"peft_type={name} needs calls between the steps of training, which are not made"
    elif name in kinds:
        why = f"peft_type={name} acts on no layers, but on a language model or on other adapters"
    else:
        why = f"no peft_type {name!r}: {nearest_hint(name, usable)}"
    raise ConfigError(f"method {method!r}: {why}; one of {', '.join(usable)}")


def _try_layers(trunk: Trunk) -> None:
    """Let a layer of each kind act on zeros: some ask for more than tokens of a point cloud."""
    added = {
        type(layer): layer for layer in trunk.modules() if isinstance(layer, _library("layer"))
    }
    for layer in added.values():
        base, modes = layer.get_base_layer(), {part: part.training for part in layer.modules()}
        if isinstance(base, nn.Linear | nn.LayerNorm):
            with torch.no_grad(), torch.random.fork_rng([]):
                layer.eval()(base.weight.new_zeros(1, 1, base.weight.shape[-1]))
            for part, mode in modes.items():
                part.training = mode


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
