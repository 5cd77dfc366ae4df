"""The adapter folder: saving, and loading onto the encoder it was trained on."""

import copy
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from pointpeft.errors import CheckpointError
from pointpeft.files import replacing, write_json
from pointpeft.locations import ADAPTER_CONFIG, resolve_adapter
from pointpeft.models import ModelSpec, build_classifier
from pointpeft.models.safetensors_files import read_safetensors, state_hash, write_safetensors
from pointpeft.models.segmentation.building import build_segmenter
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.base import config_class
from pointpeft.peft.model import PeftModel, get_peft_model

__all__ = [
    "copy_adapter",
    "load_adapter",
    "read_adapter_config",
    "resolve_adapter",
    "save_adapter",
]

WEIGHTS, CARD = "adapter_model.safetensors", "README.md"
FORMAT_VERSION = 1
_REQUIRED = ("method", "base_model", "num_classes", "class_names", "input")
_BASE = {"name": str, "config": dict, "num_points": int, "hash": str}
_BANK = "tuner.bank."
_SHOWN = 6
_HASH = 16  # characters of a hash that are shown


def save_adapter(model: PeftModel, folder: str | Path) -> Path:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and a card into ``folder``.

    Each file replaces an older one only when it is complete. Where the encoder's weights came from
    is written relative to ``folder``, so that both may be moved together.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = _adapter_config(model)
    if source := model.base_checkpoint:
        config["base_model"]["checkpoint"] = _relative(source, folder)
    bank_ids = list(model.bank.ids) if model.bank else []
    write_safetensors(folder / WEIGHTS, model.adapter_state(), {"bank_ids": bank_ids})
    _write_config(folder, config)
    return folder


def load_adapter(backbone: Any, folder: str | Path) -> PeftModel:
    """Put a saved adapter on its encoder.

    Args:
        backbone: the encoder that the adapter was trained on, un-adapted; it is left as it is.
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
    state, bank_ids = _read_weights(folder / WEIGHTS)
    model = _build(copy.deepcopy(backbone), config)
    settings = config_class(config["method"]["method"]).from_dict(config["method"])
    bank = None
    if _BANK + "features" in state:
        bank = MemoryBank(state[_BANK + "features"], state.get(_BANK + "labels"), bank_ids)
    adapted = get_peft_model(model, settings, bank)
    _check_entries(adapted, state, folder / WEIGHTS)
    adapted.load_state_dict(state, strict=False)  # entries were checked one by one
    adapted.class_names = tuple(config["class_names"]) if config["class_names"] else None
    adapted.parts = config.get("parts")
    adapted.input = config["input"]
    adapted.base_checkpoint = config["base_model"]["checkpoint"]
    return adapted.eval()


def copy_adapter(source: str | Path, target: str | Path) -> None:
    """Replace the folder ``target`` by a copy of an adapter that finds the encoder's weights too.

    Weights that lie beside ``source`` are expected beside ``target``.
    """
    source, target = Path(source).resolve(), Path(target).resolve()
    with TemporaryDirectory(dir=target.parent, prefix=target.name, suffix=".tmp") as beside:
        new = Path(beside, "new")
        shutil.copytree(source, new)
        config = json.loads((new / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        weights = _absolute(config["base_model"]["checkpoint"], source)
        if weights and Path(weights).parent != source.parent:
            config["base_model"]["checkpoint"] = _relative(weights, target)
            _write_config(new, config)
        if target.is_dir():  # a folder cannot take the place of another that holds files
            target.rename(Path(beside, "old"))
        new.rename(target)


def _build(backbone: Any, config: dict[str, Any]) -> Any:
    """The un-adapted model of an adapter around its encoder."""
    if config.get("num_parts") is None:
        return build_classifier(backbone, config["num_classes"])
    return build_segmenter(backbone, config["num_parts"], config["num_classes"])


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """The content of ``adapter_config.json``, checked for its format version.

    ``["base_model"]["checkpoint"]`` is the absolute path of the encoder's weights, if they are
    there.

    Raises:
        CheckpointError: the file is missing or damaged, or of a newer format.
    """
    path = Path(folder) / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        newer = int(config["format_version"]) > FORMAT_VERSION
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    if newer:
        raise CheckpointError(
            f"{path} has format version {config['format_version']}, this release reads up to "
            f"{FORMAT_VERSION}; upgrade pointpeft"
        )
    if missing := _missing(config):
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(missing)}")
    base = config["base_model"]
    base["checkpoint"] = _absolute(base.get("checkpoint"), path.parent)
    return config


def _missing(config: dict[str, Any]) -> list[str]:
    """Keys that loading needs and that are not there, or of the encoder hold something else."""
    base = config.get("base_model")
    found = base if isinstance(base, dict) else {}
    of_base = [key for key, kind in _BASE.items() if not isinstance(found.get(key), kind)]
    if not isinstance(found.get("checkpoint"), str | None):
        of_base.append("checkpoint")
    return [k for k in _REQUIRED if k not in config] + [f"base_model.{key}" for key in of_base]


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    with replacing(folder / CARD) as temporary:
        temporary.write_text(_card(config), encoding="utf-8")
    write_json(folder / ADAPTER_CONFIG, config)


def _relative(path: str, folder: Path) -> str:
    """An absolute path as seen from ``folder``, unless they share nothing but the root."""
    folder = folder.resolve()
    if not Path(path).is_absolute() or Path(path).drive != folder.drive:
        return path
    if os.path.commonpath((path, folder)) == folder.anchor:
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


def _absolute(recorded: str | None, folder: Path) -> str | None:
    """The file that :func:`_relative` was given; as it was recorded where there is none."""
    path = folder / (recorded or "")
    return str(path.resolve()) if recorded and path.is_file() else recorded


def _adapter_config(model: PeftModel) -> dict[str, Any]:
    from pointpeft import __version__

    spec = model.base_spec
    return {
        "format_version": FORMAT_VERSION,
        "pointpeft_version": __version__,
        "method": model.config.to_dict(),
        "base_model": {
            "name": spec.name,
            "config": {key: _plain(value) for key, value in spec.config.items()},
            "num_points": spec.num_points,
            "hash": model.base_hash,
            "checkpoint": model.base_checkpoint,
        },
        **model.sizes,
        "class_names": list(model.class_names) if model.class_names else None,
        "parts": model.parts,
        "input": model.input,
        "parameters": model.count_parameters(),
    }


def _check_base(backbone: Any, config: dict[str, Any], folder: Path) -> None:
    expected, spec = config["base_model"], getattr(backbone, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise CheckpointError("backbone must be an encoder made by create_model(name)")
    own = {"name": spec.name} | {key: _plain(value) for key, value in spec.config.items()}
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
            f"their hash is {found[:_HASH]}, the adapter needs {expected['hash'][:_HASH]}"
        ]
    if differences:
        raise CheckpointError(
            f"the adapter in {folder} was trained on another base model: {'; '.join(differences)}"
        )


def _read_weights(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the adapter folder is incomplete")
    state, metadata = read_safetensors(path)
    return state, metadata.get("bank_ids") or None


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
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("surplus", surplus), ("of wrong shape", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit its own config; entries {'; '.join(problems)}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _card(config: dict[str, Any]) -> str:
    base, counts = config["base_model"], config["parameters"]
    classes = ", ".join(config["class_names"] or []) or "not recorded"
    source = base["checkpoint"] or "memory"
    return f"""# {config["method"]["method"]} adapter for {base["name"]}

| | |
|---|---|
| base model | `{base["name"]}`, weights `{base["hash"][:_HASH]}`, from {source} |
| trainable parameters | {counts["trainable"]:,} of {counts["total"]:,} |
| classes | {classes} |

```python
import pointpeft as pp

backbone = pp.create_model("{base["name"]}", checkpoint="...")  # the weights named above
model = pp.load_adapter(backbone, "this folder")
```
"""
