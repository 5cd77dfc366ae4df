"""What a checkpoint of another program calls its entries, and what this library does."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["TOKENIZER_CONVOLUTIONS", "Layout", "block_depths", "recognise"]

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
        fit: for layouts of which the rules hang on these: the layout for the names of a file.
        tuned: whether the files are of models under a tuning method.
    """

    name: str
    markers: tuple[str, ...]
    rules: Sequence[tuple[str, str]]
    convolutions: Sequence[tuple[str, int]] = (TOKENIZER_CONVOLUTIONS,)
    left: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    task: Any = "classification"
    absent: tuple[str, ...] = ()
    sizes: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[Sequence[str]], "Layout"] | None = None
    tuned: bool = False

    def matches(self, names: Sequence[str]) -> bool:
        """Whether state-dict ``names`` are of this layout."""
        present = all(any(name.startswith(m) for name in names) for m in self.markers)
        return present and not any(name.startswith(self.absent) for name in names)

    def ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for a state dict of theirs; entries without a rule keep their names."""
        renamed = {_rename(name, self.rules): tensor for name, tensor in state.items()}
        return {
            name: tensor.flatten(1) if self._kernel_axes(name) else tensor
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
    return found.fit(names) if found is not None and found.fit is not None else found


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
