"""Weights that were read from a file: what it calls its entries, and putting them into a model."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.errors import CheckpointError
from pointpeft.formats import enumerate_names
from pointpeft.models.loadable import Loadable, Task

__all__ = [
    "TOKENIZER_CONVOLUTIONS",
    "Checkpoint",
    "Layout",
    "LoadReport",
    "WrongEncoderError",
    "block_depths",
    "fill",
    "recognise",
]

TOKENIZER_CONVOLUTIONS = (r"(first|second)_conv\.[03]\.", 1)
"""Of every mini-PointNet."""


@dataclass(frozen=True)
class Layout:
    """The names that a program has for the entries of a network.

    Attributes:
        name: what a report calls it.
        markers: prefixes that occur in this layout; all must be present to recognise it.
        rules: pairs (their prefix, our prefix), first match wins; ``*`` is a block number.
        convolutions: layers of ours that are linear and theirs as convolutions of kernel size
            1: pairs (pattern of our names, number of kernel axes).
        left: prefixes of entries that no model of ours takes, and why.
        model: name of the model that the entries are of.
        task: what that model is for.
        absent: prefixes of further entries that make a file one of another layout.
        sizes: settings of the encoder that the names of the entries show.
        fit: for layouts of which the rules hang on the blocks per scale: the layout for other ones.
        blocks: for these, the prefix of the names of blocks, see :func:`block_depths`.
        tuned: whether the files are of models under a tuning method.
    """

    name: str
    markers: tuple[str, ...]
    rules: Sequence[tuple[str, str]]
    convolutions: Sequence[tuple[str, int]] = (TOKENIZER_CONVOLUTIONS,)
    left: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    task: Task = "classification"
    absent: tuple[str, ...] = ()
    sizes: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[Sequence[int]], "Layout"] | None = None
    blocks: str = "h_encoder.encoder_blocks."
    tuned: bool = False

    def matches(self, names: Sequence[str]) -> bool:
        """Whether state-dict ``names`` are of this layout."""
        present = all(any(name.startswith(m) for name in names) for m in self.markers)
        return present and not any(name.startswith(self.absent) for name in names)

    def ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for a state dict of theirs; entries without a rule keep their names."""
        renamed = {_rename(name, self.rules): tensor for name, tensor in state.items()}
        return {
            name: tensor.flatten(1) if tensor.ndim > 2 and self._kernel_axes(name) else tensor
            for name, tensor in renamed.items()
        }

    def theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`ours`."""
        inverse = [(ours, theirs) for theirs, ours in self.rules]
        return {
            _rename(name, inverse): tensor[(..., *(None,) * self._kernel_axes(name))]
            for name, tensor in state.items()
        }

    def _kernel_axes(self, name: str) -> int:
        """Axes of size 1 that their form of our tensor ``name`` has at its end."""
        if not name.endswith(".weight"):
            return 0
        return next((axes for layer, axes in self.convolutions if re.search(layer, name)), 0)


def recognise(names: Sequence[str], layouts: Sequence[Layout]) -> Layout | None:
    """The first of ``layouts`` that state-dict ``names`` match, in the depths that they show."""
    found = next((layout for layout in layouts if layout.matches(names)), None)
    return found.fit(block_depths(names, found.blocks)) if found and found.fit else found


def block_depths(names: Sequence[str], prefix: str) -> tuple[int, ...]:
    """Blocks of every scale, as names like ``<prefix>0.blocks.4.norm1.bias`` show them.

    They are counted: what a damaged file has too many or too few of, its model refuses.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.blocks\.(\d+)\.")
    places = {(int(m[1]), int(m[2])) for name in names if (m := pattern.match(name))}
    counts = Counter(scale for scale, _ in places)
    return tuple(counts[scale] or 1 for scale in range(len(counts)))


def _rename(name: str, rules: Sequence[tuple[str, str]]) -> str:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\*", r"(\d+)")
        if match := re.match(pattern, name):
            for number in match.groups():
                new = new.replace("*", number, 1)
            return new + name[match.end() :]
    return name


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a file under our names.

    Attributes:
        source: the file.
        title: what the file was recognised as.
        state: tensors by name; the encoder's begin with ``backbone.``.
        metadata: what the file says about itself.
        layout: what another program calls the entries; None for a file of ours.
    """

    source: Path
    title: str
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    layout: Layout | None = None

    @property
    def task(self) -> str:
        """What the model of the file is for."""
        return self.layout.task if self.layout else self.metadata["task"]


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


def fill(model: Loadable, checkpoint: Checkpoint, reset_head: bool = False) -> LoadReport:
    """Put weights into a model: the whole encoder, and the rest as far as both have it.

    Args:
        model: an encoder, classification or pre-training model, or an adapter.
        checkpoint: the weights.
        reset_head: leave the model's fresh head as it is, whatever the checkpoint has.

    Returns:
        What was used, left, and not found.

    Raises:
        CheckpointError: entries of the encoder are missing or left over, shapes differ, or values
            are not finite.
    """
    prefix = "backbone." if model.task == "features" else ""
    if not reset_head:
        model.before_filling(checkpoint.state.keys())
    own = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    heads = _head_names(model, own) if reset_head else set()
    used = [name for name in own if name in checkpoint.state and name not in heads]
    fresh = [name for name in own if name not in used]
    optional = [f"backbone.{entry}" for entry in model.core.optional_state]
    _check_fit(checkpoint, own, used, fresh, (*optional, *heads))
    model.load_state_dict(
        {name.removeprefix(prefix): checkpoint.state[name] for name in used}, strict=not fresh
    )
    followed = model.after_filling(used)
    fresh = [name for name in fresh if name not in followed]
    left = [name for name in checkpoint.state if name not in used]
    reasons = dict(checkpoint.layout.left) if checkpoint.layout else {}
    reasons |= dict.fromkeys(heads, "a fresh head was asked for")
    return LoadReport(checkpoint.title, tuple(used), tuple(left), tuple(fresh), reasons)


def _head_names(model: Loadable, own: Mapping[str, Tensor]) -> set[str]:
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
    file = f"{checkpoint.source} ({checkpoint.title})"
    refused = f"{file} does not fit this model"
    damaged = [name for name in used if not _can_be(own[name], checkpoint.state[name])]
    if damaged:
        raise CheckpointError(
            f"{file} is damaged, or quantised: these entries are not finite floating-point "
            f"numbers: {enumerate_names(damaged)}"
        )
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


def _can_be(own: Tensor, found: Tensor) -> bool:
    """Whether an entry can be copied: finite floating-point numbers where the network has such."""
    if not own.is_floating_point():
        return True
    return found.is_floating_point() and bool(found.float().isfinite().all())


def _roots(names: tuple[str, ...]) -> str:
    return ", ".join(sorted({name.split(".")[0] for name in names}))
