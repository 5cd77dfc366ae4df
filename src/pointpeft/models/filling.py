"""Putting the weights of a checkpoint into a model, and what became of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pointpeft.errors import CheckpointError
from pointpeft.formats import enumerate_names
from pointpeft.models.checkpoint import Checkpoint

__all__ = ["LoadReport", "WrongEncoderError", "fill"]

_HEADS = ("head.", "model.head.")


class WrongEncoderError(CheckpointError):
    """The encoder of a checkpoint is another one than that of the model."""


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


def fill(model: nn.Module, checkpoint: Checkpoint, reset_head: bool = False) -> LoadReport:
    """Put weights into a model: the whole encoder, and the rest as far as both have it.

    Args:
        model: an encoder, classification or pre-training model, or an adapter.
        checkpoint: the weights.
        reset_head: leave the model's fresh head as it is, whatever the checkpoint has.

    Returns:
        What was used, left, and not found.

    Raises:
        CheckpointError: entries of the encoder are missing or left over, or shapes differ.
    """
    prefix = "backbone." if model.task == "features" else ""
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
    reasons = dict(checkpoint.layout.left) if checkpoint.layout else {}
    reasons |= dict.fromkeys(heads, "a fresh head was asked for")
    return LoadReport(checkpoint.title, tuple(used), tuple(left), tuple(fresh), reasons)


def _head_names(model: nn.Module, own: Mapping[str, Tensor]) -> set[str]:
    """Entries that hang on the number of classes or parts; of a segmenter all but the encoder."""
    if model.task == "part_segmentation":
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
    refused = f"{checkpoint.source} ({checkpoint.title}) does not fit this model"
    for names, problem in problems:
        if names:
            raise WrongEncoderError(
                f"{refused}: {problem.format(len(names))}: {enumerate_names(names)}; use a "
                "checkpoint of this backbone and depth"
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
        of_encoder = any(name.startswith(core) for name in wrong)
        kind = WrongEncoderError if of_encoder else CheckpointError
        raise kind(f"{refused}: {enumerate_names(wrong)}; {remedy}")


def _roots(names: tuple[str, ...]) -> str:
    return ", ".join(sorted({name.split(".")[0] for name in names}))
