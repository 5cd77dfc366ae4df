"""Files of the library torch-pointcloud: the published weights under names of its own.

Its networks have multi-layer perceptrons, ``NAME.lins.0``, ``NAME.norms.0.module``, where the
published ones have sequences of layers, and linear layers in place of convolutions of kernel size
1. Where features are carried to points, they stand before those of the points themselves, and in
the published networks behind them.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

__all__ = ["as_published"]


class _Perceptron(NamedTuple):
    """A perceptron there, and what the published networks call its layers.

    Attributes:
        name: pattern of its name.
        linear: published names of its linear layers, in their order.
        norms: published names of its norms.
    """

    name: str
    linear: tuple[str, ...]
    norms: tuple[str, ...] = ()


_PERCEPTRONS = (
    _Perceptron(
        r"(.*)local_mlp", (r"\1first_conv.0", r"\1first_conv.3"), (r"\1first_conv.1",)
    ),
    _Perceptron(
        r"(.*)global_mlp", (r"\1second_conv.0", r"\1second_conv.3"), (r"\1second_conv.1",)
    ),
    _Perceptron(r"(.*blocks\.\d+\.mlp)", (r"\1.fc1", r"\1.fc2")),
    _Perceptron(r"(.*pos_embeds?(?:\.\d+)?|cls_head)", (r"\1.0", r"\1.2")),
    _Perceptron(r"increase_dim", ("increase_dim.0",)),
    # of part segmentation
    _Perceptron(r"label_conv", ("label_conv.0",), ("label_conv.1",)),
    _Perceptron(
        r"(propagation(?:_|s\.)\d+)\.mlp",
        (r"\1.mlp_convs.0", r"\1.mlp_convs.1"),
        (r"\1.mlp_bns.0", r"\1.mlp_bns.1"),
    ),
    # of Point-M2AE's decoder
    _Perceptron(r"(token_prop\.\d+)\.fp\.mlp", (r"\1.fuse.net.0",), (r"\1.fuse.net.1",)),
    _Perceptron(
        r"(token_prop\.\d+\.extraction)\.(\d+\.net[12])",
        (r"\1.operation.\2.0",),
        (r"\1.operation.\2.1",),
    ),
    # of Point-BERT's tokenizer
    _Perceptron(r"(dgcnn_\d\.input_trans)", (r"\1",)),
    _Perceptron(r"(decoder\.mlp)", (r"\1.0", r"\1.2", r"\1.4")),
    _Perceptron(
        r"(decoder\.final_conv)", (r"\1.0", r"\1.3", r"\1.6"), (r"\1.1", r"\1.4")
    ),
)  # fmt: skip

_CLASSIFIER = _Perceptron(
    "head",
    ("cls_head_finetune.0", "cls_head_finetune.4", "cls_head_finetune.8"),
    ("cls_head_finetune.1", "cls_head_finetune.5"),
)
_PLAIN_CLASSIFIER = _Perceptron("head", ("cls_head_finetune.0", "cls_head_finetune.3"))
_SEGMENTER = _Perceptron("head", ("convs1", "convs2", "convs3", "convs4"), ("bns1", "bns2", "bns3"))

_LAYERS = (
    (r"^norm_f\.", "norm."),
    (r"^blocks\.(?=\d)", "blocks.blocks."),
    (r"^(dgcnn_\d\.layer\d)(?:\.|_)conv\.", r"\1.0."),
    (r"^(dgcnn_\d\.layer\d)(?:\.|_)norm\.", r"\1.1."),
)
"""Other layers: patterns of their names, and what the published networks call them."""

_NESTED = "encoder."
"""Of Point-BERT's classifier, what stands before all but the head."""
_QUERY = "transformer_q."
"""What stands before the network of Point-BERT's pre-training that is kept, as published."""


def as_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a file as the published repositories name and order them.

    Entries with other names than those of the library keep them, so that published names stay.

    Args:
        state: the entries of a model of Point-BERT, its tokenizer, Point-MAE or Point-M2AE.
    """
    nested = any(name.startswith(f"{_NESTED}{_NESTED}") for name in state)
    perceptrons = (*_PERCEPTRONS, _head_of(state))
    before = _QUERY if any(name.startswith("lm_head.") for name in state) else ""
    return {
        before + _published(name.removeprefix(_NESTED) if nested else name, perceptrons): (
            _in_order(name, tensor)
        )
        for name, tensor in state.items()
    }


def _head_of(state: Mapping[str, Tensor]) -> _Perceptron:
    """What the published networks call the layers of ``head``."""
    if any(name.startswith("label_conv.") for name in state):
        return _SEGMENTER
    normalised = any(name.startswith("head.norms.") for name in state)
    return _CLASSIFIER if normalised else _PLAIN_CLASSIFIER


_CARRIED = r"(propagation(?:_|s\.)\d+|(token_prop)\.\d+\.fp)\.mlp\.lins\.0\.weight"
"""First layers behind features that were carried: to points, or to tokens of a finer scale."""


def _in_order(name: str, tensor: Tensor) -> Tensor:
    """The weights with columns of a point's own features first, ``(C, c) -> (C, c)``.

    Those are coordinates; a token has as many channels as come out.
    """
    found = re.fullmatch(_CARRIED, name)
    if found is None or tensor.ndim != 2:  # which will not fit
        return tensor
    return tensor.roll(len(tensor) if found[2] else 3, dims=1)


_OF_PERCEPTRON = re.compile(r"(.+)\.(lins|norms)\.(\d+)\.(?:module\.)?(\w+)")


def _published(name: str, perceptrons: tuple[_Perceptron, ...]) -> str:
    name = _layer_of_sequence(name, perceptrons)
    for pattern, replacement in _LAYERS:
        name = re.sub(pattern, replacement, name)
    return name


def _layer_of_sequence(name: str, perceptrons: tuple[_Perceptron, ...]) -> str:
    """The published name of a layer of a perceptron; other names stay."""
    if layer := _OF_PERCEPTRON.fullmatch(name):
        perceptron, kind, place, rest = layer.groups()
        for each in perceptrons:
            found = re.fullmatch(each.name, perceptron)
            layers = each.linear if kind == "lins" else each.norms
            if found and int(place) < len(layers):
                return f"{found.expand(layers[int(place)])}.{rest}"
    return name
