"""Reading and writing weights: our safetensors form and published ``.pth`` files."""

import hashlib
import json
import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pointpeft.errors import CheckpointError
from pointpeft.files import replacing
from pointpeft.models.published import LAYOUTS, Layout, recognise

__all__ = [
    "Checkpoint",
    "LoadReport",
    "fill",
    "load_into",
    "read_checkpoint",
    "read_safetensors",
    "save_model",
    "saved_objective",
    "saved_sizes",
    "state_hash",
    "write_safetensors",
]

log = logging.getLogger("pointpeft")

# Published checkpoints keep accuracies as NumPy scalars, written under the module names of NumPy 1
# or 2; these hold numbers only.
_SAFE_NUMPY: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLefd"),
    *(
        (getattr(np._core.multiarray, name), f"numpy.{core}.multiarray.{name}")  # type: ignore[attr-defined]
        for name in ("scalar", "_reconstruct")
        for core in ("core", "_core")
    ),
]
_BEGINNINGS = (b"PK", b"\x80")  # of what torch.save writes: an archive, formerly a pickle
_SHOWN = 8  # names listed in an error message
_HEADS = ("head.", "model.head.")
_FILES = ("tokenizer", "teacher")  # settings of pre-training that name files of one machine


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a file under our names.

    Attributes:
        source: the file.
        layout: what the file was recognised as.
        state: tensors by name; the encoder's begin with ``backbone.``.
        metadata: what our own files say about themselves; empty for published ones.
        published: the layout of a published file.
    """

    source: Path
    layout: str
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    published: Layout | None = None

    @property
    def task(self) -> Any:
        """What the model of the file is for."""
        return self.published.task if self.published else self.metadata["task"]


@dataclass(frozen=True)
class LoadReport:
    """What became of the entries of a checkpoint.

    Attributes:
        layout: what the file was recognised as.
        used: entries copied into the model.
        left: entries of the file that the model has no place for.
        fresh: entries of the model that the file does not have, which keep their initial values.
        reasons: why entries of these prefixes were left, where that is known.
    """

    layout: str
    used: tuple[str, ...]
    left: tuple[str, ...]
    fresh: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.layout}: {len(self.used)} entries used"]
        for reason in dict.fromkeys(self.reasons.values()):
            prefixes = tuple(prefix for prefix, why in self.reasons.items() if why == reason)
            if names := tuple(name for name in self.left if name.startswith(prefixes)):
                parts.append(f"{len(names)} left ({_roots(names)}: {reason})")
        if names := tuple(n for n in self.left if not n.startswith(tuple(self.reasons))):
            parts.append(f"{len(names)} left ({_roots(names)}: not part of this model)")
        if self.fresh:
            parts.append(f"{len(self.fresh)} keep their initial values ({_roots(self.fresh)})")
        return "; ".join(parts)


def load_into(model: nn.Module, path: str | Path) -> LoadReport:
    """Load a checkpoint into a model: the whole encoder, and the rest as far as both have it.

    Args:
        model: an encoder, classification or pre-training model.
        path: a published ``.pth`` file or one of ours.

    Returns:
        What was used, left, and not found; also logged.

    Raises:
        CheckpointError: no such file, code in a pickle, encoder entries missing, wrong shapes.
    """
    report = fill(model, read_checkpoint(path))
    log.info("%s: %s", path, report)
    return report


def fill(model: nn.Module, checkpoint: Checkpoint, reset_head: bool = False) -> LoadReport:
    """:func:`load_into` with a checkpoint that was read already, and without a word in the log.

    Args:
        model: as there.
        checkpoint: what :func:`read_checkpoint` returned.
        reset_head: leave the model's fresh head as it is, whatever the checkpoint has.
    """
    prefix = "backbone." if hasattr(model, "retrieval_features") else ""
    own = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    heads = _head_names(model, own) if reset_head else set()
    used = [name for name in own if name in checkpoint.state and name not in heads]
    fresh = [name for name in own if name not in used]
    encoder = getattr(model, "backbone", model)
    optional = [f"backbone.{entry}" for entry in getattr(encoder, "optional_state", ())]
    _check_fit(checkpoint, own, used, fresh, (*optional, *heads))
    model.load_state_dict(
        {name.removeprefix(prefix): checkpoint.state[name] for name in used}, strict=not fresh
    )
    follow: Any = getattr(model, "after_filling", lambda used: ())
    followed = follow(used)
    fresh = [name for name in fresh if name not in followed]
    left = [name for name in checkpoint.state if name not in used]
    reasons = dict(checkpoint.published.left) if checkpoint.published else {}
    reasons |= dict.fromkeys(heads, "a fresh head was asked for")
    return LoadReport(checkpoint.layout, tuple(used), tuple(left), tuple(fresh), reasons)


def _head_names(model: nn.Module, own: Mapping[str, Tensor]) -> set[str]:
    """Entries that hang on the number of classes or parts; of a segmenter all but the encoder."""
    if hasattr(model, "num_parts"):
        return {name for name in own if not name.startswith("backbone.")}
    return {name for name in own if name.startswith(_HEADS)}


def _check_fit(
    checkpoint: Checkpoint,
    own: Mapping[str, Tensor],
    used: list[str],
    fresh: list[str],
    optional: tuple[str, ...],
) -> None:
    """Refuse what is missing, left over or of other shapes, save entries that begin as optional."""
    # All of a network without an encoder, such as a tokenizer, must be there.
    core = "backbone." if any(name.startswith("backbone.") for name in own) else ""
    missing = [name for name in fresh if name.startswith(core)]
    surplus = [name for name in checkpoint.state if name.startswith(core) and name not in own]
    missing, surplus = (
        [name for name in names if not name.startswith(optional)] for names in (missing, surplus)
    )
    problems = (
        (missing, "it lacks {} of the encoder's entries"),
        (surplus, "it has {} entries that this encoder has no place for"),
    )
    refused = f"{checkpoint.source} ({checkpoint.layout}) does not fit this model"
    for names, problem in problems:
        if names:
            raise CheckpointError(
                f"{refused}: {problem.format(len(names))}: {_listed(names)}; use a checkpoint of "
                "this backbone and depth"
            )
    wrong = [
        f"{name} is {tuple(checkpoint.state[name].shape)}, the model needs {tuple(own[name].shape)}"
        for name in used
        if checkpoint.state[name].shape != own[name].shape
    ]
    if wrong:
        remedy = "use a checkpoint of the same sizes, or pass the sizes of this one as settings"
        if all(name.startswith(_HEADS) for name in wrong):
            remedy = "pass the number of classes of the file, or reset_head=True for a fresh head"
        raise CheckpointError(f"{refused}: {_listed(wrong)}; {remedy}")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read weights under our names from a safetensors file of ours or a published pickle.

    Pickles are read with ``weights_only=True``: they may hold tensors and numbers, never code.

    Raises:
        CheckpointError: no such file, not a checkpoint, code in a pickle, unknown layout.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; pass the path of a weights file")
    if path.suffix == ".safetensors":
        return _read_ours(path)
    return _read_published(path)


def saved_sizes(path: str | Path, name: str) -> dict[str, Any]:
    """Settings of the encoder that a file of ours was written from; none for published files.

    Raises:
        CheckpointError: the file holds another model than ``name``.
    """
    metadata = _own_metadata(Path(path))
    if metadata.get("name", name) != name:
        raise CheckpointError(f"{path} holds {metadata['name']!r}, not {name!r}")
    if "config" not in metadata:
        return {}
    return {**metadata["config"], "num_points": metadata["num_points"]}


def saved_objective(path: str | Path) -> dict[str, Any]:
    """Settings of the pre-training model that a file of ours holds, without files that they name.

    None for files that hold no such model.
    """
    return dict(_own_metadata(Path(path)).get("pretraining", {}))


def _own_metadata(path: Path) -> dict[str, Any]:
    """What a file of ours says about itself; nothing where there is none."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with _opened(path) as file:
        return _metadata_of(file)


def _read_ours(path: Path) -> Checkpoint:
    state, metadata = read_safetensors(path)
    if not {"name", "task"} <= metadata.keys():
        hint = "; it is an adapter: use load_adapter" if "bank_ids" in metadata else ""
        raise CheckpointError(f"{path} does not hold a pointpeft model{hint}")
    if metadata["task"] == "features":
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    layout = f"pointpeft {metadata['name']}, {metadata['task']}"
    return Checkpoint(path, layout, state, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a safetensors file, and what :func:`write_safetensors` noted beside them.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _opened(path) as file:
        metadata = _metadata_of(file)
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error


def _metadata_of(file: Any) -> dict[str, Any]:
    metadata = json.loads((file.metadata() or {}).get("pointpeft", "{}"))
    return metadata if isinstance(metadata, dict) else {}


def _check_beginning(path: Path) -> None:
    """Refuse text files: web pages, pointers of Git LFS and the like, saved in place of weights."""
    with path.open("rb") as file:
        start = file.read(20)
    if not start.startswith(_BEGINNINGS):
        raise CheckpointError(
            f"{path} is damaged or not a PyTorch checkpoint: "
            f"{f'it begins with {start!r}' if start else 'it is empty'}; download or copy it again"
        )


def _read_published(path: Path) -> Checkpoint:
    _check_beginning(path)
    try:
        with torch.serialization.safe_globals(_SAFE_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"Unsupported (?:global|class|operand)[^\n]*", str(error))
        raise CheckpointError(
            f"{path} was refused: it is damaged or contains objects other than tensors, numbers "
            f"and text, which could run code when loaded{f' ({found[0]})' if found else ''}"
        ) from error
    except Exception as error:  # arbitrary bytes raise almost anything
        raise CheckpointError(f"{path} is damaged or not a PyTorch checkpoint") from error
    state = _unwrap(path, content)
    layout = recognise(list(state), LAYOUTS)
    if layout is None:
        # Tuning methods, of which models know nothing, make their files known when imported.
        hint = "" if any(each.attach for each in LAYOUTS) else "; `import pointpeft.peft` adds more"
        raise CheckpointError(
            f"{path} is of no known layout; its first entries: {_listed(list(state))}; known: "
            + ", ".join(each.name for each in LAYOUTS)
            + hint
        )
    return Checkpoint(path, layout.name, layout.from_published(state), published=layout)


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    """The state dict inside a published checkpoint, without the prefix of data parallelism."""
    for key in ("base_model", "model", "model_state_dict", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {
        name.replace("module.", ""): tensor
        for name, tensor in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not state:
        raise CheckpointError(f"{path} holds no state dict (a mapping of names to tensors)")
    return state


def save_model(
    model: nn.Module, path: str | Path, half: bool = False, **notes: str | float
) -> None:
    """Write a model in our form: safetensors with its name, settings and task inside.

    Args:
        model: an encoder, classification or pre-training model made by ``create_model``.
        path: file to write, replaced only when the new one is complete.
        half: store floating-point tensors as float16.
        **notes: further facts for the file's metadata.
    """
    spec: Any = getattr(model, "backbone", model).spec
    kinds = {
        "retrieval_features": "features",
        "head": "classification",
        "num_parts": "part_segmentation",
        "backbone": "pretraining",
    }
    task = next((task for name, task in kinds.items() if hasattr(model, name)), "tokenizer")
    state = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    facts = {**asdict(spec), "task": task, **notes}
    if task == "pretraining":
        objective: Any = model.pretraining_config
        facts["pretraining"] = {k: v for k, v in asdict(objective).items() if k not in _FILES}
    write_safetensors(path, state, facts)


def write_safetensors(
    path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors with what our own files say about themselves."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"pointpeft": json.dumps(metadata)})


def state_hash(module: nn.Module) -> str:
    """SHA-256 over names and float32 values of a module's state: its identity across formats.

    An encoder has the same one in every model: what only some models need of it does not count.
    """
    digest = hashlib.sha256()
    optional = tuple(getattr(module, "optional_state", ()))
    for name, tensor in sorted(module.state_dict().items()):
        if name.startswith(optional):
            continue
        digest.update(name.encode())
        values = tensor.detach().cpu()
        digest.update((values.float() if values.is_floating_point() else values).numpy().tobytes())
    return digest.hexdigest()


def _roots(names: tuple[str, ...]) -> str:
    return ", ".join(sorted({name.split(".")[0] for name in names}))


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
