"""Where weights and adapters lie; looked up without importing anything slow."""

import hashlib
import logging
import os
from pathlib import Path
from types import ModuleType

from pointpeft.errors import CheckpointError
from pointpeft.files import as_bytes
from pointpeft.optional import import_optional

__all__ = [
    "ADAPTER",
    "ADAPTER_CONFIG",
    "BEST_ENCODER",
    "EMBEDDED",
    "EMBEDDED_LICENSE",
    "ENCODER",
    "HUB",
    "RUN_CONFIG",
    "TRAINING_FEATURES",
    "anonymous",
    "existing_weights",
    "hub_library",
    "is_on_hub",
    "lone_name",
    "names_embedded",
    "noted_place",
    "relative_place",
    "resolve_adapter",
    "resolve_checkpoint",
]

log = logging.getLogger("pointpeft")

EMBEDDED = "embedded"
"""What weights that come with the package are called."""
EMBEDDED_LICENSE = "Apache-2.0"
"""Under which they are."""
HUB = "hf://"
"""What the address of a repository on the hub of Hugging Face begins with, ``hf://owner/name``."""
RUN_CONFIG = "config.yaml"
"""The file by which the folder of a run or of a measurement is known."""
ENCODER = "backbone.safetensors"
"""Name of the encoder's file in the folder of a run."""
BEST_ENCODER = "backbone_best.safetensors"
"""Encoder of the best epoch, where there is a check that says which one that is."""
_RELEASED = "model.safetensors"
"""Name of the only weights in a repository of the hub, as most libraries upload them."""
ADAPTER = "adapter"
"""Name of the adapter's folder there."""
ADAPTER_CONFIG = "adapter_config.json"
"""The file by which an adapter folder is known."""
TRAINING_FEATURES = "training_features.safetensors"
"""What an adapter may remember of its training shapes, beside its weights."""
_HASHED = "sha256:"


def anonymous(name: str) -> str:
    """A hash by which the name of an item or a place is known again, but not read.

    Names of private data do not belong into an adapter, which may be given away. A hash stays as it
    is.
    """
    if name.startswith(_HASHED):
        return name
    return _HASHED + hashlib.sha256(as_bytes(name)).hexdigest()[:32]


def relative_place(path: str, folder: Path) -> str:
    """An absolute path as seen from ``folder``; where they share nothing but the root, its name.

    What lies elsewhere on the machine is no business of whom a file in ``folder`` is given to.
    """
    folder = folder.resolve()
    if not Path(path).is_absolute():
        return path
    if Path(path).drive != folder.drive or os.path.commonpath((path, folder)) == folder.anchor:
        return Path(path).name
    return Path(os.path.relpath(path, folder)).as_posix()


def lone_name(source: str) -> str:
    """What weights are called far from their folder: "embedded", an address, or a file name."""
    return source if source == EMBEDDED or is_on_hub(source) else Path(source).name


def existing_weights(path: str | Path) -> Path:
    """The path of a weights file.

    Raises:
        CheckpointError: there is no such file.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"checkpoint {path} does not exist: pass a file of weights, or the folder of a "
            "pre-training run"
        )
    return Path(path)


def names_embedded(checkpoint: str | Path | None, model: str) -> bool:
    """Whether a checkpoint means the weights that come with the package for ``model``.

    They are called "embedded", or by the name of the model. A file of that name comes first.
    """
    return str(checkpoint) in (EMBEDDED, model) and not Path(str(checkpoint)).exists()


def resolve_checkpoint(path: str | Path) -> Path:
    """The weights file meant by ``path``: itself, or the encoder's in the folder of a run.

    Of a run in which a check said which epoch was the best, it is the encoder of that epoch. Of a
    repository of another library it is ``model.safetensors``.

    Args:
        path: a weights file, looked at only when it is read, a pre-training run folder, or either
            on the hub, ``hf://owner/name``.

    Raises:
        CheckpointError: a folder without encoder weights.
    """
    given, path = path, _fetched(path)
    if not path.is_dir():
        return path
    encoder, best = path / ENCODER, path / BEST_ENCODER
    if encoder.is_file():
        chosen, which = (best, "best") if best.is_file() else (encoder, "last")
        log.info("%s: the encoder of its %s epoch, %s", given, which, chosen.name)
        return chosen
    if (path / _RELEASED).is_file():
        return path / _RELEASED
    if any((place / ADAPTER_CONFIG).is_file() for place in (path, path / ADAPTER)):
        raise CheckpointError(
            f"folder {given} holds an adapter and no {ENCODER}: a checkpoint is the folder of a "
            "run of `pointpeft pretrain`, or a weights file"
        )
    raise CheckpointError(
        f"folder {given} holds no {ENCODER}, which pre-training writes at its end; resume the run "
        f"there, or pass a weights file, such as the best encoder so far, {BEST_ENCODER}"
    )


def _fetched(path: str | Path) -> Path:
    """A path on this machine, also of what lies on the hub."""
    if not is_on_hub(path):
        return Path(path)
    library = hub_library()
    try:
        return Path(library.snapshot_download(str(path).removeprefix(HUB)))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be had: {error}") from error


def is_on_hub(path: str | Path | None) -> bool:
    """Whether a path is the address of a repository on the hub."""
    return str(path).startswith(HUB)


def noted_place(given: str | Path, file: Path) -> str:
    """How it is noted where weights came from: their address, or the absolute path of their file.

    Args:
        given: what was asked for, see :func:`resolve_checkpoint`.
        file: which that is.
    """
    return str(given) if is_on_hub(given) else str(file.resolve())


def hub_library() -> ModuleType:
    """The library of the hub of Hugging Face, an optional dependency.

    Raises:
        ConfigError: it is not installed.
    """
    missing = f"{HUB}... needs the library huggingface_hub: pip install huggingface_hub"
    return import_optional("huggingface_hub", missing)


def resolve_adapter(folder: str | Path) -> Path:
    """The adapter folder meant by ``folder``: itself, or ``folder/adapter`` of a run.

    Raises:
        CheckpointError: there is none.
    """
    given, folder = folder, _fetched(folder)
    for candidate in (folder, folder / ADAPTER):
        if (candidate / ADAPTER_CONFIG).is_file():
            return candidate
    raise CheckpointError(
        f"{given} holds no adapter: expected {ADAPTER_CONFIG} in it, or in its sub-folder "
        f"{ADAPTER!r}"
    )
