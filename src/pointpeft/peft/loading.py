"""An adapter put on the encoder that it was trained on."""

import copy
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pointpeft.errors import CheckpointError
from pointpeft.formats import enumerate_names
from pointpeft.locations import resolve_adapter
from pointpeft.models import ModelSpec, build_classifier
from pointpeft.models.safetensors_files import read_safetensors, state_hash
from pointpeft.models.segmentation.building import build_segmenter
from pointpeft.models.trunk import Trunk
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.base import PeftConfig, config_class, list_methods
from pointpeft.peft.model import PeftModel, get_peft_model
from pointpeft.peft.saving import (
    METHOD_CLASS,
    SHOWN_OF_HASH,
    plain,
    read_adapter_config,
    weights_file,
)

__all__ = ["load_adapter"]

_BANK = "tuner.bank."

_WRAPPED = re.compile(r"^model\.backbone\.blocks\.(\d+)\.(block\.)?")
"""Names of Point-PEFT in format 1, where its layers were part of the encoder's blocks."""


def load_adapter(backbone: Any, folder: str | Path) -> PeftModel:
    """Put a saved adapter on its encoder.

    Args:
        backbone: the encoder that the adapter was trained on, un-adapted; it is left as it is. Any
            number of adapters may be put on it: they share the memory of its frozen matrices.
        folder: an adapter folder, or a run folder that holds one.

    Returns:
        A model in eval mode, ready to predict, with ``class_names`` and ``input`` filled in.

    Raises:
        CheckpointError: no adapter there, another encoder, missing or surplus entries, or wrong
            shapes; the message lists them.
    """
    folder = resolve_adapter(folder)
    config = read_adapter_config(folder)
    _check_base(backbone, config, folder)
    weights = weights_file(folder)
    state, notes = read_safetensors(weights)
    if config["format_version"] == 1 and config["method"]["method"] == "point-peft":
        state = {_unwrapped(name): tensor for name, tensor in state.items()}
    model = _build(_sharing_matrices(backbone), config)
    settings = _settings(config, folder)
    bank = None
    if _BANK + "features" in state:
        ids = notes.get("bank_ids") or None
        bank = MemoryBank(state[_BANK + "features"], state.get(_BANK + "labels"), ids)
    adapted = get_peft_model(model, settings, bank)
    _own_what_is_trained(adapted)
    _check_entries(adapted, state, weights)
    adapted.load_state_dict(state, strict=False)  # entries were checked one by one
    adapted.class_names = tuple(config["class_names"]) if config["class_names"] else None
    adapted.parts = config.get("parts")
    adapted.input = config["input"]
    adapted.base_checkpoint = config["base_model"]["checkpoint"]
    return adapted.eval()


def _sharing_matrices(backbone: Trunk) -> Trunk:
    """A copy of an encoder that reads the matrices of the original from where they lie.

    Only the memory is shared: whether they are trained, and on which device they are, is the
    copy's own.
    """
    shared = {
        id(p): nn.Parameter(p.data, requires_grad=p.requires_grad)
        for p in backbone.parameters()
        if p.ndim > 1
    }
    return copy.deepcopy(backbone, memo=dict(shared))


def _own_what_is_trained(model: PeftModel) -> None:
    """Give a model its own memory for parameters of the encoder that its method trains."""
    for parameter in model.model.backbone.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.clone()


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


def _build(backbone: Any, config: dict[str, Any]) -> Any:
    """The un-adapted model of an adapter around its encoder."""
    if config.get("num_parts") is None:
        return build_classifier(backbone, config["num_classes"])
    return build_segmenter(backbone, config["num_parts"], config["num_classes"])


def _check_base(backbone: Any, config: dict[str, Any], folder: Path) -> None:
    expected, spec = config["base_model"], getattr(backbone, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise CheckpointError("backbone must be an encoder made by create_model(name)")
    own = {"name": spec.name} | {key: plain(value) for key, value in spec.config.items()}
    wanted = {"name": expected["name"]} | expected["config"]
    differences = [
        f"{key} is {own.get(key)!r}, the adapter needs {wanted.get(key)!r}"
        for key in sorted(own.keys() | wanted.keys())
        if own.get(key) != wanted.get(key)
    ]
    if not differences and (found := state_hash(backbone)) != expected["hash"]:
        came_from = expected["checkpoint"] or "not recorded"
        differences = [
            f"its weights are others than those trained on ({came_from}), in content or precision: "
            f"their hash is {found[:SHOWN_OF_HASH]}, the adapter needs "
            f"{expected['hash'][:SHOWN_OF_HASH]}"
        ]
    if differences:
        raise CheckpointError(
            f"the adapter in {folder} was trained on another base model: {'; '.join(differences)}"
        )


def _check_entries(model: PeftModel, state: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    expected = set(model.adapter_state())
    missing = sorted(expected - state.keys())
    surplus = sorted(state.keys() - expected - model.optional_names())
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in sorted(state.items())
        if name in own and tensor.shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {enumerate_names(names)}"
        for what, names in (("missing", missing), ("surplus", surplus), ("of wrong shape", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit its own config; entries {'; '.join(problems)}")
