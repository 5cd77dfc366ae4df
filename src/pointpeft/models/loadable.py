"""What weights are loaded into, and what identifies the network that they are of."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from pointpeft.errors import ConfigError

__all__ = ["Core", "Loadable", "ModelSpec", "Task"]

Task = Literal["features", "classification", "part_segmentation", "pretraining"]
"""What a model is built for, see :func:`pointpeft.create_model`."""


@dataclass(frozen=True)
class ModelSpec:
    """What identifies the architecture of a backbone, kept as ``backbone.spec``.

    Attributes:
        name: registry name.
        config: every setting of the encoder.
        num_points: points per cloud that it expects.
    """

    name: str
    config: dict[str, Any]
    num_points: int


class Loadable(nn.Module):
    """A network that :func:`pointpeft.models.checkpoint.fill` can put weights into.

    Attributes:
        task: what it is for: a :data:`Task`, or "tokenizer".
    """

    task: str

    @property
    def core(self) -> "Core":
        """The part that a registry entry describes: the encoder, or a tokenizer as a whole."""
        raise NotImplementedError

    def before_filling(self, names: Collection[str]) -> None:
        """Take the form of the weights whose entries have these ``names``."""

    def after_filling(self, used: Collection[str]) -> Collection[str]:
        """Follow the entries ``used`` of a checkpoint; returns those that have other values now."""
        return ()


class Core(Loadable):
    """A network that a registry entry describes, by itself.

    Attributes:
        config: its settings.
        loaded_from: where its weights came from, as ``create_model`` noted.
        optional_state: prefixes of entries that a checkpoint may have or lack.
    """

    config: Any
    loaded_from: str | None = None
    optional_state: tuple[str, ...] = ()
    _spec: ModelSpec | None = None

    @property
    def core(self) -> "Core":
        """The network itself."""
        return self

    @property
    def spec(self) -> ModelSpec:
        """What identifies the architecture.

        Raises:
            ConfigError: it was not made by ``create_model``, so nothing is known.
        """
        if self._spec is None:
            raise ConfigError(
                f"this {type(self).__name__} has no name in the registry: make it by create_model"
            )
        return self._spec

    @spec.setter
    def spec(self, spec: ModelSpec) -> None:
        self._spec = spec
