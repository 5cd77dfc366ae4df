"""Names of parameters in published checkpoints, and what this library calls them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["POINT_MAE_LAYOUTS", "Layout", "recognise"]

# Layers that are 1x1 convolutions in published files and linear layers here.
_POINTWISE = re.compile(r"((first|second)_conv\.[03]|increase_dim(\.0)?)\.weight$")


@dataclass(frozen=True)
class Layout:
    """A published state-dict layout.

    Attributes:
        name: what a report calls it.
        markers: prefixes that occur in this layout; all must be present to recognise it.
        rules: pairs (published prefix, our prefix), first match wins; ``*`` is a block number.
    """

    name: str
    markers: tuple[str, ...]
    rules: Sequence[tuple[str, str]]

    def matches(self, names: Sequence[str]) -> bool:
        """Whether state-dict ``names`` are of this layout."""
        return all(any(name.startswith(m) for name in names) for m in self.markers)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for a published state dict; entries without a rule keep their names."""
        return {
            _rename(name, self.rules): _pointwise_to_linear(name, tensor)
            for name, tensor in state.items()
        }

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`from_published`."""
        inverse = [(ours, published) for published, ours in self.rules]
        return {
            _rename(name, inverse): _linear_to_pointwise(name, tensor)
            for name, tensor in state.items()
        }


POINT_MAE_PRETRAINED = Layout(
    "Point-MAE, pre-trained",
    ("MAE_encoder.", "MAE_decoder."),
    (
        ("MAE_encoder.encoder.", "backbone.tokenizer.embed."),
        ("MAE_encoder.blocks.blocks.", "backbone.blocks."),
        ("MAE_encoder.", "backbone."),
        ("MAE_decoder.", "decoder."),
        ("increase_dim.0.", "increase_dim."),
    ),
)

POINT_MAE_CLASSIFICATION = Layout(
    "Point-MAE, fine-tuned for classification",
    ("encoder.", "blocks.blocks.", "cls_head_finetune."),
    (
        ("encoder.", "backbone.tokenizer.embed."),
        ("pos_embed.", "backbone.pos_embed."),
        ("blocks.blocks.", "backbone.blocks."),
        ("norm.", "backbone.norm."),
        ("cls_head_finetune.", "head."),
    ),
)

POINT_MAE_LAYOUTS = (POINT_MAE_PRETRAINED, POINT_MAE_CLASSIFICATION)


def recognise(names: Sequence[str], layouts: Sequence[Layout]) -> Layout | None:
    """The first of ``layouts`` that state-dict ``names`` match."""
    return next((layout for layout in layouts if layout.matches(names)), None)


def _rename(name: str, rules: Sequence[tuple[str, str]]) -> str:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\*", r"(\d+)")
        if match := re.match(pattern, name):
            for number in match.groups():
                new = new.replace("*", number, 1)
            return new + name[match.end() :]
    return name


def _pointwise_to_linear(name: str, tensor: Tensor) -> Tensor:
    return tensor.squeeze(-1) if _POINTWISE.search(name) else tensor


def _linear_to_pointwise(name: str, tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(-1) if _POINTWISE.search(name) else tensor
