"""Our own files: safetensors that say which model they hold."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.files import replacing
from pointpeft.models.loadable import Core, Loadable
from pointpeft.models.objective import Pretraining

__all__ = [
    "checked_notes",
    "objective_facts",
    "read_safetensors",
    "save_model",
    "saved_name",
    "saved_shapes",
    "saved_sizes",
    "state_hash",
    "write_safetensors",
]

_FILES = ("tokenizer", "teacher")  # settings of pre-training that name files of one machine


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a safetensors file, and what :func:`write_safetensors` noted beside them.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _opened(path) as file:
        metadata = _metadata_of(file, path)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def save_model(model: Loadable, path: str | Path, half: bool = False, **notes: str | float) -> None:
    """Write a model in our form: safetensors with its name, settings and task inside.

    Args:
        model: an encoder, classification or pre-training model made by ``create_model``.
        path: file to write, replaced only when the new one is complete.
        half: store floating-point tensors as float16.
        **notes: further facts for the file's metadata.

    Raises:
        ConfigError: ``model`` is none of these.
    """
    if not isinstance(model, Loadable):
        raise ConfigError(
            f"`model` must be made by create_model, got {type(model).__name__}; save_pretrained of "
            "a PeftModel saves an adapter"
        )
    state = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    facts = {**asdict(model.core.spec), "task": model.task, **notes}
    if isinstance(model, Pretraining):
        facts["pretraining"] = objective_facts(model)
    write_safetensors(path, state, facts)


def objective_facts(model: Pretraining) -> dict[str, Any]:
    """Settings of pre-training that a file states, without files that they name."""
    objective = asdict(model.pretraining_config)
    return {key: value for key, value in objective.items() if key not in _FILES}


def write_safetensors(
    path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors with what our own files say about themselves.

    Raises:
        ConfigError: the path is not UTF-8, which the library cannot read from.
        OSError: it cannot be written, as on a full disk; a file that was there is as it was.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"path {str(path)!r} is not UTF-8: name another one") from error
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary:
        temporary.touch()  # takes the usual permissions, which the library would not give
        mode = temporary.stat().st_mode
        try:
            save_file(contiguous, temporary, metadata={"pointpeft": json.dumps(metadata)})
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written, is the disk full? ({error})") from error
        temporary.chmod(mode)


def state_hash(module: nn.Module) -> str:
    """SHA-256 over names and float32 values of a module's state: its identity across formats.

    An encoder has the same one in every model: what only some models need of it does not count.
    """
    optional = module.optional_state if isinstance(module, Core) else ()
    state = module.state_dict().items()
    return tensors_hash({name: tensor for name, tensor in state if not name.startswith(optional)})


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and float32 values of some tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        values = tensor.detach().cpu()
        digest.update((values.float() if values.is_floating_point() else values).numpy().tobytes())
    return digest.hexdigest()


def saved_name(path: str | Path) -> str | None:
    """Registry name of the model that a file of ours holds; None for released files."""
    return _own_metadata(Path(path)).get("name")


def saved_sizes(path: str | Path) -> dict[str, Any]:
    """Settings of the encoder that a file of ours was written from; none for released files."""
    metadata = _own_metadata(Path(path))
    if "config" not in metadata:
        return {}
    return {**metadata["config"], "num_points": metadata["num_points"]}


def saved_shapes(path: str | Path) -> str:
    """Digests of the shapes that an encoder of ours was pre-trained on, as they were packed.

    Empty where its file does not say.
    """
    return str(_own_metadata(Path(path)).get("shapes", ""))


def _own_metadata(path: Path) -> dict[str, Any]:
    """What a file of ours says about itself; nothing where there is none."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with _opened(path) as file:
        return _metadata_of(file, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except CheckpointError:  # a ValueError, too
        raise
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error


def _metadata_of(file: Any, path: Path) -> dict[str, Any]:
    metadata = json.loads((file.metadata() or {}).get("pointpeft", "{}"))
    return checked_notes(metadata, path) if isinstance(metadata, dict) else {}


def checked_notes(notes: Mapping[Any, Any], path: Path) -> dict[Any, Any]:
    """What a file of ours says about itself, if it is of the kinds that we write.

    Raises:
        CheckpointError: it is not.
    """
    for key in ("config", "method", "pretraining"):
        if not isinstance(notes.get(key, {}), Mapping):
            raise CheckpointError(
                f"{path} is damaged: its note {key!r} is {notes[key]!r}, not a mapping"
            )
    points = notes.get("num_points", None if "config" in notes else 1)
    if type(points) is not int or points < 1:
        raise CheckpointError(
            f"{path} is damaged: its note 'num_points' is {points!r}, not an integer of at least 1"
        )
    return dict(notes)
