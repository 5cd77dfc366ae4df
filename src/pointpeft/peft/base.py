"""What a tuning method is: a config, a tuner that attaches it, and a line in the registry."""

import abc
import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.models.trunk import Method, Tokenized
from pointpeft.peft.bank import MemoryBank

__all__ = [
    "PeftConfig",
    "Tuner",
    "config_class",
    "find_method",
    "list_methods",
    "register_method",
    "tuner_class",
]


@dataclass(frozen=True)
class PeftConfig:
    """Settings of a tuning method; sub-classes are frozen dataclasses that add fields.

    Attributes:
        method: the name by which the method is registered; every sub-class has its own.
        learning_rate: peak of the schedule, unless another one is asked for.

    Example:
        >>> @dataclass(frozen=True)
        ... class MyConfig(pp.PeftConfig):
        ...     method = "my-method"
        ...     rank: int = 8
    """

    method: ClassVar[str] = ""
    learning_rate: ClassVar[float] = 5e-4

    @property
    def uses_bank(self) -> bool:
        """Whether the method retrieves from a memory bank."""
        return False

    def resolve(self, backbone: Any) -> Self:
        """The settings with all that is left open decided for this backbone."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, with the method's name."""
        return {"method": self.method, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: a key is unknown; the message proposes the nearest valid one.
        """
        valid = [field.name for field in dataclasses.fields(cls)]
        settings = {key: value for key, value in settings.items() if key != "method"}
        for key in settings:
            if key not in valid:
                known = ", ".join(valid) or "none"
                raise ConfigError(
                    f"method {cls.method!r} has no setting {key!r}: {nearest_hint(key, valid)}"
                    f"settings: {known}"
                )
        # JSON and YAML know lists only.
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})


class Tuner(Method, abc.ABC):
    """A method attached to one model: its shared parameters and its rules.

    It stands beside the encoder and acts on every forward pass, see :class:`Method`. It must not
    change the encoder. What it adds, and what is trained, is saved with an adapter.

    Args:
        model: frozen classification or part-segmentation model whose ``backbone`` is to be adapted.
        config: settings of the method.
        bank: memory bank, for methods that use one.
    """

    #: Keep frozen modules in eval mode during training, so that BatchNorm statistics stay put.
    freezes_statistics: bool = True

    #: Some trained parameters receive no gradient, which several processes have to know.
    leaves_idle: bool = False

    #: Nothing is added to the model: with the trained values it is a plain one.
    mergeable: ClassVar[bool] = False

    #: Prefixes of what is made from the frozen encoder again, so neither stored nor counted.
    rebuilt: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def __init__(self, model: Any, config: Any, bank: MemoryBank | None) -> None:
        super().__init__()

    @abc.abstractmethod
    def trains(self, name: str) -> bool:
        """Whether the parameter ``name`` ("model.backbone...", "model.head...", "tuner...")."""

    def set_bank(self, bank: MemoryBank, encoder: Any) -> None:
        """See :meth:`pointpeft.peft.PeftModel.set_bank`."""
        raise ConfigError(f"{type(self).__name__} has no use for a memory bank")

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """Conditioning that blocks find in ``geometry.context``.

        Args:
            found: the clouds as the encoder tokenized them.
            query: see :meth:`pointpeft.PeftModel.forward`, as is ``exclude``.
            exclude: None outside of training.
        """
        return {}


_METHODS: dict[str, tuple[type[PeftConfig], type[Tuner]]] = {}


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


def tuner_class(method: str) -> type[Tuner]:
    """The tuner class of a registered method."""
    config_class(method)
    return _METHODS[method][1]
