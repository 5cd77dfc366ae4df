"""An adapter put on the encoder that it was trained on."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.cards import SHOWN_OF_HASH
from pointpeft.errors import CheckpointError
from pointpeft.formats import enumerate_names
from pointpeft.locations import resolve_adapter
from pointpeft.models import Network
from pointpeft.models.safetensors_files import read_safetensors
from pointpeft.models.trunk import Trunk
from pointpeft.peft.adapter import Adapter
from pointpeft.peft.adapter_config import read_adapter_config
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.method import PeftConfig
from pointpeft.peft.model import PeftModel
from pointpeft.peft.registry import config_class, list_methods
from pointpeft.peft.saving import (
    METHOD_CLASS,
    load_training_features,
    plain,
    weights_file,
)

__all__ = ["load_adapter"]

_BANK = "tuner.bank."

_WRAPPED = re.compile(r"^model\.backbone\.blocks\.(\d+)\.(block\.)?")
"""Names of Point-PEFT in format 1, where its layers were part of the encoder's blocks."""


def load_adapter(
    base: Trunk | Network | PeftModel, folder: str | Path, name: str = "default"
) -> PeftModel:
    """Put a saved adapter on its encoder.

    Args:
        base: the encoder that the adapter was trained on, or a model around it, which is left as it
            is; or a :class:`PeftModel` with other adapters on it, which gets one more. The adapters
            of one model share the memory of all that is frozen, and so do those of several models
            that are loaded onto one encoder.
        folder: an adapter folder, or a run folder that holds one.
        name: what the model calls it, see :meth:`PeftModel.set_adapter`. The first adapter of a
            model is active.

    Returns:
        A model in eval mode, ready to predict, with ``class_names`` and ``input`` filled in; a
        :class:`PeftModel` that was given is returned itself.

    Raises:
        CheckpointError: no adapter there, another encoder, missing or surplus entries, or wrong
            shapes; the message lists them.
        ConfigError: the name is malformed or taken, or the encoder has no name in the registry.
    """
    folder = resolve_adapter(folder)
    config = read_adapter_config(folder)
    model = base if isinstance(base, PeftModel) else _fresh(base)
    _check_base(model, config, folder)
    weights = weights_file(folder)
    state, notes = read_safetensors(weights)
    training_features = load_training_features(folder)
    if config["format_version"] == 1 and config["method"]["method"] == "point-peft":
        state = {_unwrapped(name): tensor for name, tensor in state.items()}
    bank = None
    if _BANK + "features" in state:
        ids = notes.get("bank_ids") or None
        bank = MemoryBank(state[_BANK + "features"], state.get(_BANK + "labels"), ids)
    sizes = {"num_classes": config["num_classes"], "num_parts": config.get("num_parts")}
    adapter = model.add_adapter(name, _settings(config, folder), bank, **sizes)
    try:
        _load(adapter, state, weights)
    except CheckpointError:
        model.delete_adapter(name)
        raise
    adapter.remember(training_features)
    adapter.class_names = tuple(config["class_names"]) if config["class_names"] else None
    adapter.parts = config.get("parts")
    adapter.task = config.get("task", adapter.task)
    adapter.input = config["input"]
    adapter.license, adapter.data_license = config.get("license"), config.get("data_license")
    adapter.temperature = float(config.get("temperature", 1.0))
    adapter.base_checkpoint = config["base_model"]["checkpoint"]
    return model


def _fresh(base: Trunk | Network) -> PeftModel:
    """A model without adapters, in eval mode.

    Raises:
        CheckpointError: this is no encoder, and no model around one.
    """
    if not isinstance(base, Trunk | Network):
        raise CheckpointError("base must be made by create_model(name)")
    return PeftModel(base).eval()


def _load(adapter: Adapter, state: dict[str, Tensor], path: Path) -> None:
    problems = [
        f"{len(names)} {what}: {enumerate_names(names)}"
        for what, names in adapter.wrong_entries(state).items()
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit its own config; entries {'; '.join(problems)}")
    adapter.load_state_dict(state, strict=False)  # entries were checked one by one


def _unwrapped(name: str) -> str:
    """The name in format 2 of an entry in format 1."""
    found = _WRAPPED.match(name)
    if found is None:
        return name
    place, is_of_block = found.groups()
    return f"{'model.backbone' if is_of_block else 'tuner'}.blocks.{place}.{name[found.end() :]}"


def _settings(config: dict[str, Any], folder: Path) -> PeftConfig:
    """Settings of the method of an adapter. A file of others never has code imported."""
    name, origin = config["method"]["method"], config.get(METHOD_CLASS)
    if name not in list_methods() and origin is not None:
        raise CheckpointError(
            f"the adapter in {folder} was tuned by the method {name!r} of {origin}: if you trust "
            f"that module, import it, or pass {origin} as `method`"
        )
    return config_class(name).from_dict(config["method"])


def _check_base(model: PeftModel, config: dict[str, Any], folder: Path) -> None:
    expected, spec = config["base_model"], model.trunk.spec
    own = {"name": spec.name} | {key: plain(value) for key, value in spec.config.items()}
    wanted = {"name": expected["name"]} | expected["config"]
    if own["name"] != wanted["name"]:
        raise CheckpointError(
            f"the adapter in {folder} was trained on {wanted['name']}, the model is {own['name']}"
        )
    differences = [
        f"{key} is {own.get(key)!r}, the adapter needs {wanted.get(key)!r}"
        for key in sorted(own.keys() | wanted.keys())
        if own.get(key) != wanted.get(key)
    ]
    if not differences and (found := model.base_hash) != expected["hash"]:
        came_from = expected["checkpoint"] or "not recorded"
        differences = [
            f"its weights are others than those trained on ({came_from}), in content or precision: "
            f"their hash is {found[:SHOWN_OF_HASH]}, the adapter needs "
            f"{expected['hash'][:SHOWN_OF_HASH]}"
        ]
        if model.trunk.loaded_from is None:
            differences.append("create_model(..., pretrained=True or checkpoint=...) loads weights")
        elif came_from == "embedded":
            differences.append(
                "the weights that come with pointpeft were replaced since then: train the adapter "
                "anew, or pass the earlier file as `checkpoint`, see CHANGELOG.md"
            )
    if differences:
        raise CheckpointError(
            f"the adapter in {folder} was trained on another base model: {'; '.join(differences)}"
        )
