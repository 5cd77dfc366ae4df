"""Settings that the tensors of a published file show: all that its weights hang on."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pointpeft.models.layout import Layout

__all__ = ["encoder_sizes", "head_sizes", "objective_sizes"]

_COARSE = 4  # points of a patch per coarse point that the tokenizer rebuilds
_VIEWS = 3  # of an image teacher


class _Shapes:
    """Shapes by our names; those of a network under a tuning method under its plain names."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._shapes = {
            name.removeprefix("model.").replace(".block.", "."): tuple(tensor.shape)
            for name, tensor in state.items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def size(self, name: str, axis: int = 0) -> int | None:
        """Of an axis; None where there is no such tensor, or no such axis."""
        shape = self._shapes.get(name, ())
        return shape[axis] if axis < len(shape) else None

    def count(self, pattern: str) -> int:
        """Different numbers in the names that match ``pattern``, which has one group."""
        return len({m[1] for name in self._shapes if (m := re.match(pattern, name))})

    def in_scales(self, count: int, name: str) -> tuple[int | None, ...]:
        """Sizes of ``count`` tensors in whose name ``*`` is their number."""
        return tuple(self.size(name.replace("*", str(scale))) for scale in range(count))


def encoder_sizes(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of the encoder, or of a tokenizer, that the weights of a file show.

    Args:
        layout: of the file.
        state: its tensors under our names.
    """
    shapes = _Shapes(state)
    if "codebook" in shapes:
        return _known(
            patch_widths=_patch_widths(shapes, "embed."),
            embed_dim=shapes.size("embed.second_conv.3.weight"),
            num_tokens=shapes.size("codebook"),
            token_dim=shapes.size("codebook", 1),
            decoder_dim=shapes.size("contextualise.output.weight"),
            group_size=_times(shapes.size("decoder.mlp.4.weight"), _COARSE, 3),
        )
    if depths := layout.sizes.get("depths"):
        return _known(
            depths=depths,
            dims=shapes.in_scales(len(depths), "backbone.pos_embeds.*.2.weight"),
            patch_widths=_patch_widths(shapes, "backbone.tokenizers.0.embed."),
        )
    embedded = shapes.size("backbone.tokenizer.embed.second_conv.3.weight")
    return _known(
        dim=shapes.size("backbone.pos_embed.2.weight"),
        depth=shapes.count(r"backbone\.blocks\.(\d+)\.") or None,
        patch_widths=_patch_widths(shapes, "backbone.tokenizer.embed."),
        embed_dim=embedded if "backbone.tokenizer.project.weight" in shapes else None,
        group_size=_times(shapes.size("increase_dim.weight"), 1, 3)
        or _times(shapes.size("dvae.decoder.mlp.4.weight"), _COARSE, 3),
    )


def objective_sizes(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of pre-training that the weights of a file show; none for other tasks.

    Args:
        layout: of the file.
        state: its tensors under our names.
    """
    shapes, steps = _Shapes(state), 0
    if layout.task != "pretraining" or "codebook" in shapes:
        return {}
    if "decoder.mask_token" in shapes:
        steps = shapes.count(r"decoder\.pos_embeds\.(\d+)\.")
    members = _times(shapes.size("rec_head.weight"), 1, 3)
    channels = _times(shapes.size("feature_head.weight"), 1, _VIEWS * (members or 1))
    depths, residuals = (
        tuple(shapes.count(re.escape(prefix.format(i)) + r"(\d+)\.") for i in range(count))
        for prefix, count in (
            ("decoder.stages.{}.", steps),
            ("decoder.propagations.{}.residuals.", max(steps - 1, 0)),
        )
    )
    return _known(
        decoder_depth=shapes.count(r"decoder\.blocks\.(\d+)\.") or None,
        decoder_depths=depths or None,
        decoder_residuals=residuals if steps else None,
        points_per_group=members,
        queue_size=shapes.size("queue", 1),
        feature_dim=shapes.size("cls_head.2.weight"),
        num_tokens=shapes.size("lm_head.weight"),
        token_dim=shapes.size("dvae.codebook", 1),
        decoder_dim=shapes.size("dvae.contextualise.output.weight"),
        # The teacher is no part of the weights, but for the channels of what is rebuilt.
        **({"teacher": "random", "teacher_channels": channels} if channels else {}),
    )


def head_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Numbers of classes, or of parts and categories, as the last layers of a file show them."""
    shapes, counts = _Shapes(state), dict[str, Any]()
    for key, pattern in {"num_classes": r"head\.\d+\.weight", "num_parts": r"fc\d\.weight"}.items():
        layers = sorted(name for name in state if re.fullmatch(rf"(?:model\.)?{pattern}", name))
        if layers:
            counts[key] = len(state[layers[-1]])
    if categories := shapes.size("category.linear.weight", 1):
        counts["num_categories"] = categories
    return counts


def _patch_widths(shapes: _Shapes, prefix: str) -> tuple[int | None, ...]:
    layers = ("first_conv.0", "first_conv.3", "second_conv.0")
    return tuple(shapes.size(f"{prefix}{layer}.weight") for layer in layers)


def _times(size: int | None, factor: int, divisor: int) -> int | None:
    return None if size is None else size * factor // divisor


def _known(**sizes: Any) -> dict[str, Any]:
    """Those that the file shows, as a whole."""
    return {
        name: size
        for name, size in sizes.items()
        if size is not None and not (isinstance(size, tuple) and None in size)
    }
