"""The adapter folder: what is written into it, and its config read back."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointpeft.cards import SHOWN_OF_HASH, adapter_card, check_license, write_card
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.files import replacing, write_json
from pointpeft.locations import (
    ADAPTER_CONFIG,
    EMBEDDED,
    EMBEDDED_LICENSE,
    TRAINING_FEATURES,
    anonymous,
    lone_name,
    relative_place,
    resolve_adapter,
)
from pointpeft.models.safetensors_files import write_safetensors
from pointpeft.peft.adapter_config import FORMAT_VERSION, read_adapter_config
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.method import PeftConfig
from pointpeft.peft.training_features import (
    WEIGHTS_HASH,
    read_training_features,
    write_training_features,
)

if TYPE_CHECKING:
    from pointpeft.peft.adapter import Adapter

__all__ = [
    "METHOD_CLASS",
    "adapter_digest",
    "copy_adapter",
    "load_training_features",
    "plain",
    "resolve_adapter",
    "save_adapter",
    "weights_file",
]

WEIGHTS = "adapter_model.safetensors"
_NEXT_WEIGHTS = f"{WEIGHTS}.next"
"""Weights of the adapter that is being saved, until the config names them."""
_NEXT_FEATURES = f"{TRAINING_FEATURES}.next"
"""What it remembers, until then."""
OTHERS = "hugging_face"
"""Folder in an adapter that the library ``peft`` reads, for methods that come from it."""
METHOD_CLASS = "method_class"
"""Says of an adapter by a method that does not come with the package where that is from."""


def save_adapter(adapter: "Adapter", folder: str | Path, alone: bool = False) -> Path:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and a card into ``folder``.

    An older adapter in ``folder`` is replaced in one step: whatever ends the process, the folder
    holds the old adapter or the new one, whole. No file of the older one stays; files of others are
    left alone. What the adapter remembers of its training shapes is written too. The place of the
    encoder's weights is written relative to ``folder``, so that both may be moved together; if the
    folder goes ``alone``, their file name. No absolute path is written and no name of an item, but
    hashes of them: an adapter may be given away.
    """
    folder = Path(folder)
    config = _adapter_config(adapter)
    if source := adapter.base_checkpoint:
        place = lone_name(source) if alone else relative_place(source, folder)
        config["base_model"]["checkpoint"] = place
    notes = {"bank_ids": [anonymous(name) for name in adapter.bank.ids] if adapter.bank else []}

    def write(path: Path) -> None:
        write_safetensors(path, adapter.stored_state(), notes)

    _replace(folder, write, config, adapter.training_features)
    adapter.tuner.save_extra(folder)
    return folder


def _replace(
    folder: Path,
    write: Callable[[Path], object],
    config: dict[str, Any],
    training_features: MemoryBank | None,
) -> None:
    """Make ``folder`` an adapter, or another one.

    The config states the hash of the weights, and replacing it is the one step. The new files lie
    beside the old ones until then, and they are looked for there too.

    Args:
        folder: is created when absent.
        write: writes the weights to the path that it is called with.
        config: all else.
        training_features: features of training shapes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{folder} is a file, or in one: name a folder for the adapter") from None
    new, features = folder / _NEXT_WEIGHTS, folder / _NEXT_FEATURES
    try:
        write(new)
        weights_hash = _file_hash(new)
        if training_features is not None:
            write_training_features(features, training_features, weights_hash)
        write_json(folder / ADAPTER_CONFIG, config | {WEIGHTS_HASH: weights_hash})
    except OSError:  # a full disk: the older adapter stays
        for file in (new, features):
            file.unlink(missing_ok=True)
        raise
    if training_features is not None:
        features.replace(folder / TRAINING_FEATURES)
    else:
        for name in (_NEXT_FEATURES, TRAINING_FEATURES):
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / OTHERS, ignore_errors=True)
    new.replace(folder / WEIGHTS)
    write_card(folder, adapter_card(config))


def load_training_features(folder: str | Path) -> MemoryBank | None:
    """Features of training shapes of the adapter in ``folder``; None where there are none.

    Raises:
        CheckpointError: their file is damaged, or of another adapter.
    """
    config, folder = read_adapter_config(folder), Path(folder)
    num_classes = len(config.get("class_names") or ()) or config["num_classes"]
    stated = config.get(WEIGHTS_HASH), config["base_model"]["hash"]
    last = folder / TRAINING_FEATURES
    for path in filter(Path.is_file, (folder / _NEXT_FEATURES, last)):
        known, weights_hash = read_training_features(path)
        if (weights_hash, known.encoder_hash) != stated:
            continue
        if not 0 <= int(known.labels.min()) <= int(known.labels.max()) < num_classes:
            raise CheckpointError(f"{path} is damaged: a label is no class; remove it")
        return known
    if last.is_file() and not (folder / _NEXT_WEIGHTS).is_file():  # else saving was interrupted
        raise CheckpointError(f"{last} is of another adapter; remove it to do without")
    return None


def weights_file(folder: str | Path) -> Path:
    """The weights of the adapter in ``folder``.

    Raises:
        CheckpointError: they are missing, or are not those that the adapter was saved with.
    """
    stated = read_adapter_config(folder).get(WEIGHTS_HASH)
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


def adapter_digest(folder: str | Path, *settings: object) -> str:
    """16 hexadecimal digits: of another adapter, or with other settings, there are others.

    Where the weights of the encoder lie makes no difference.

    Raises:
        CheckpointError: the adapter is damaged or incomplete.
    """
    config = read_adapter_config(folder)
    del config["base_model"]["checkpoint"]
    known = [config, _file_hash(weights_file(folder)), *settings]
    text = json.dumps(known, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:SHOWN_OF_HASH]


def copy_adapter(source: str | Path, target: str | Path, alone: bool = False) -> None:
    """Make the folder ``target`` a copy of an adapter, which finds the encoder's weights too.

    An older adapter there is replaced in one step. Weights of the encoder that lie beside
    ``source`` are expected beside ``target``. If it goes ``alone``, their file name is noted.
    """
    source, target = Path(source).resolve(), Path(target).resolve()
    found = read_adapter_config(source)["base_model"]["checkpoint"]
    config = json.loads((source / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if found and alone:
        config["base_model"]["checkpoint"] = lone_name(found)
    elif found and Path(found).parent != source.parent:
        config["base_model"]["checkpoint"] = relative_place(found, target)
    weights = weights_file(source)

    def write(path: Path) -> None:
        with replacing(path) as temporary:
            shutil.copyfile(weights, temporary)

    _replace(target, write, config, load_training_features(source))
    if (others := source / OTHERS).is_dir():
        shutil.copytree(others, target / OTHERS)


def _adapter_config(adapter: "Adapter") -> dict[str, Any]:
    from pointpeft import __version__

    spec, embedded = adapter.base_spec, adapter.base_checkpoint == EMBEDDED
    check_license("license", adapter.license)
    check_license("data_license", adapter.data_license)
    return {
        "format_version": FORMAT_VERSION,
        "pointpeft_version": __version__,
        "task": adapter.task,
        "method": adapter.config.to_dict(),
        **_origin(adapter.config),
        "base_model": {
            "name": spec.name,
            "config": {key: plain(value) for key, value in spec.config.items()},
            "num_points": spec.num_points,
            "hash": adapter.base_hash,
            "checkpoint": adapter.base_checkpoint,
            "license": EMBEDDED_LICENSE if embedded else None,
        },
        "license": adapter.license,
        "data_license": adapter.data_license,
        **adapter.sizes,
        "class_names": list(adapter.class_names) if adapter.class_names else None,
        "parts": adapter.parts,
        "input": _input(adapter.input),
        "temperature": adapter.temperature,
        "parameters": adapter.count_parameters(),
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
    return {METHOD_CLASS: f"{kind.__module__}:{kind.__qualname__}"}


def plain(value: object) -> object:
    """A setting as JSON knows it."""
    return list(value) if isinstance(value, tuple) else value
