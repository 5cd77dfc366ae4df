"""Methods by which models are saved, loaded and shared as those of Hugging Face are.

The functions that do it are above the classes that have the methods, so they are looked up late.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pointpeft.models.network import Network
    from pointpeft.models.trunk import Trunk

__all__ = ["Pretrained", "PretrainedAdapter", "PretrainedTrunk"]


class Pretrained:
    """What can be put on the hub."""

    def push_to_hub(self, repo: str, private: bool = False, message: str | None = None) -> str:
        """Upload it; arguments, result and errors are those of :func:`pointpeft.push_to_hub`."""
        return str(_hub().push_to_hub(self, repo, private, message))


class PretrainedTrunk(Pretrained):
    """A trunk as a folder, or as a repository on the hub."""

    def push_to_hub(
        self,
        repo: str,
        private: bool = False,
        message: str | None = None,
        license: str | None = None,
        data_license: str | None = None,
    ) -> str:
        """The same, under licenses: an adapter has its own."""
        return str(_hub().push_to_hub(self, repo, private, message, license, data_license))

    def save_pretrained(
        self, folder: str | Path, license: str | None = None, data_license: str | None = None
    ) -> None:
        """Write ``backbone.safetensors`` into ``folder``, which :meth:`from_pretrained` loads.

        A card ``README.md`` lies beside it, unless there is one that is not ours.

        Args:
            folder: made if it is not there.
            license: of the weights, such as "MIT". None: as it is known of weights that come with
                the package.
            data_license: of the data that they were trained on, likewise.

        Raises:
            ConfigError: a license is none, or the folder holds an adapter.
        """
        _hub().save_trunk(self, folder, license, data_license)

    @classmethod
    def from_pretrained(cls, place: str | Path) -> Self:
        """A trunk with its weights, in eval mode.

        Args:
            place: a folder of :meth:`save_pretrained` or of a pre-training run, a file of
                ``save_model``, or either on the hub, ``hf://owner/name``.

        Raises:
            CheckpointError: there are no such weights, they do not say what they are of, or they
                are of no such class.
        """
        return _hub().load_trunk(place, cls)


class PretrainedAdapter(Pretrained):
    """An adapter on the trunk that it was trained on."""

    @classmethod
    def from_pretrained(
        cls, base: "Trunk | Network", place: str | Path, name: str = "default"
    ) -> Self:
        """A model with a saved adapter, in eval mode.

        Args:
            base: the encoder that the adapter was trained on, or a model around it.
            place: an adapter or run folder, or its address on the hub, ``hf://owner/name``.
            name: what the model calls it.

        Raises:
            CheckpointError: as :func:`pointpeft.load_adapter` does, as are others.
        """
        return _hub().load_adapter(base, place, name)


def _hub() -> Any:
    return import_module("pointpeft.hub")
