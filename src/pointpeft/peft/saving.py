"""The adapter folder: saving, and loading onto the encoder it was trained on."""

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pointpeft.errors import CheckpointError
from pointpeft.files import replacing, write_json
from pointpeft.formats import enumerate_names
from pointpeft.locations import ADAPTER_CONFIG, EMBEDDED, anonymous, resolve_adapter
from pointpeft.models import ModelSpec, build_classifier
from pointpeft.models.safetensors_files import read_safetensors, state_hash, write_safetensors
from pointpeft.models.segmentation.building import build_segmenter
from pointpeft.models.trunk import Trunk
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.base import PeftConfig, config_class, list_methods
from pointpeft.peft.model import PeftModel, get_peft_model

__all__ = [
    "copy_adapter",
    "load_adapter",
    "read_adapter_config",
    "resolve_adapter",
    "save_adapter",
    "weights_file",
]

WEIGHTS, CARD = "adapter_model.safetensors", "README.md"
_NEXT_WEIGHTS = f"{WEIGHTS}.next"
"""Weights of the adapter that is being saved, until the config names them."""
_WEIGHTS_HASH = "weights_sha256"
_METHOD_CLASS = "method_class"
"""Says of an adapter by a method that does not come with the package where that is from."""
FORMAT_VERSION = 2
_WRAPPED = re.compile(r"^model\.backbone\.blocks\.(\d+)\.(block\.)?")
"""Names of Point-PEFT in format 1, where its layers were part of the encoder's blocks."""
_REQUIRED = ("method", "base_model", "num_classes", "class_names", "input")
_BASE = {"name": str, "config": dict, "num_points": int, "hash": str}
_BANK = "tuner.bank."
_HASH = 16  # characters of a hash that are shown


def save_adapter(model: PeftModel, folder: str | Path) -> Path:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and a card into ``folder``.

    An older adapter in ``folder`` is replaced in one step: whatever ends the process, the folder
    holds the old adapter or the new one, whole. Other files in it are left alone. The place of the
    encoder's weights is written relative to ``folder``, so that both may be moved together. No
    absolute path is written and no name of an item, but hashes of them: an adapter may be given
    away.
    """
    folder = Path(folder)
    config = _adapter_config(model)
    if source := model.base_checkpoint:
        config["base_model"]["checkpoint"] = _relative(source, folder)
    notes = {"bank_ids": [anonymous(name) for name in model.bank.ids] if model.bank else []}
    _replace(folder, lambda path: write_safetensors(path, model.adapter_state(), notes), config)
    return folder


def _replace(folder: Path, write: Callable[[Path], object], config: dict[str, Any]) -> None:
    """Make ``folder`` an adapter, or another one.

    The config states the hash of the weights, and replacing it is the one step. The new weights lie
    beside the old ones until then, and they are looked for there too.

    Args:
        folder: is created when absent.
        write: writes the weights to the path that it is called with.
        config: all else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / _NEXT_WEIGHTS
    write(new)
    try:
        write_json(folder / ADAPTER_CONFIG, config | {_WEIGHTS_HASH: _file_hash(new)})
    except OSError:  # a full disk: the older adapter stays
        new.unlink()
        raise
    new.replace(folder / WEIGHTS)
    with replacing(folder / CARD) as temporary:
        temporary.write_text(_card(config), encoding="utf-8")


def weights_file(folder: str | Path) -> Path:
    """The weights of the adapter in ``folder``.

    Raises:
        CheckpointError: they are missing, or are not those that the adapter was saved with.
    """
    stated = read_adapter_config(folder).get(_WEIGHTS_HASH)
    path, new = Path(folder) / WEIGHTS, Path(folder) / _NEXT_WEIGHTS
    if new.is_file() and stated == _file_hash(new):  # saving was interrupted after its one step
        return new
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the adapter folder is incomplete")
    if stated not in (None, _file_hash(path)):
        raise CheckpointError(
            f"{path} is damaged, or of another adapter: it is not the file that {ADAPTER_CONFIG} "
            "beside it was saved with; copy the whole folder again"
        )
    return path


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def copy_adapter(source: str | Path, target: str | Path) -> None:
    """Make the folder ``target`` a copy of an adapter, which finds the encoder's weights too.

    An older adapter there is replaced in one step. Weights of the encoder that lie beside
    ``source`` are expected beside ``target``.
    """
    source, target = Path(source).resolve(), Path(target).resolve()
    found = read_adapter_config(source)["base_model"]["checkpoint"]
    config = json.loads((source / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if found and Path(found).parent != source.parent:
        config["base_model"]["checkpoint"] = _relative(found, target)
    weights = weights_file(source)

    def write(path: Path) -> None:
        with replacing(path) as temporary:
            shutil.copyfile(weights, temporary)

    _replace(target, write, config)


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
    name, origin = config["method"]["method"], config.get(_METHOD_CLASS)
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
    method = config.get("method")
    of_method = [] if isinstance(method, dict) and "method" in method else ["method.method"]
    of_base = [key for key, kind in _BASE.items() if not isinstance(found.get(key), kind)]
    if not isinstance(found.get("checkpoint"), str | None):
        of_base.append("checkpoint")
    missing = [key for key in _REQUIRED if key not in config]
    return missing + of_method + [f"base_model.{key}" for key in of_base]


def _relative(path: str, folder: Path) -> str:
    """An absolute path as seen from ``folder``; where they share nothing but the root, its name.

    What lies elsewhere on the machine is no business of whom the adapter is given to.
    """
    folder = folder.resolve()
    if not Path(path).is_absolute():
        return path
    if Path(path).drive != folder.drive or os.path.commonpath((path, folder)) == folder.anchor:
        return Path(path).name
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
        **_origin(model.config),
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
        "input": _input(model.input),
        "parameters": model.count_parameters(),
    }


def _input(described: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is known of the training input, without the place where it lies on this machine."""
    source = (described or {}).get("source")
    if described is None or not isinstance(source, str) or not Path(source).is_absolute():
        return described
    return described | {"source": anonymous(source)}


def _origin(config: PeftConfig) -> dict[str, str]:
    kind = type(config)
    if kind.__module__.startswith("pointpeft."):
        return {}
    return {_METHOD_CLASS: f"{kind.__module__}:{kind.__qualname__}"}


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


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _card(config: dict[str, Any]) -> str:
    base, counts = config["base_model"], config["parameters"]
    classes = ", ".join(config["class_names"] or []) or "not recorded"
    source = base["checkpoint"] or "memory"
    weights = "pretrained=True" if source == EMBEDDED else 'checkpoint="..."'
    return f"""# {config["method"]["method"]} adapter for {base["name"]}

| | |
|---|---|
| base model | `{base["name"]}`, weights `{base["hash"][:_HASH]}`, from {source} |
| trainable parameters | {counts["trainable"]:,} of {counts["total"]:,} |
| classes | {classes} |

```sh
pointpeft predict --adapter this_folder part.stl
```

In Python, on the weights that are named above:

```python
import pointpeft as pp

backbone = pp.create_model("{base["name"]}", {weights})
model = pp.load_adapter(backbone, "this_folder")
```
"""
