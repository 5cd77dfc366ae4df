"""Weights under our names, of our own and of published files, and the sizes that they show."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.compat.checkpoints.backbone_layouts import by_positions
from pointpeft.compat.checkpoints.layouts import LAYOUTS
from pointpeft.compat.checkpoints.torch_pointcloud import as_published
from pointpeft.errors import CheckpointError
from pointpeft.files import shown_path
from pointpeft.formats import enumerate_names
from pointpeft.locations import existing_weights
from pointpeft.models.checkpoint import Checkpoint, Layout, LoadReport, fill, recognise
from pointpeft.models.loadable import Loadable
from pointpeft.models.safetensors_files import checked_notes, read_safetensors
from pointpeft.torch_files import read_torch_file
from pointpeft.vision.projection import NUM_VIEWS

__all__ = [
    "WRITTEN_HERE",
    "Shapes",
    "encoder_sizes",
    "head_sizes",
    "known_sizes",
    "load_into",
    "objective_sizes",
    "read_checkpoint",
]

_COARSE = 4  # points of a patch per coarse point that the tokenizer rebuilds


class Shapes:
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

    def patch_widths(self, prefix: str) -> tuple[int | None, ...]:
        """Widths of the mini-PointNet whose names begin with ``prefix``."""
        layers = ("first_conv.0", "first_conv.3", "second_conv.0")
        return tuple(self.size(f"{prefix}{layer}.weight") for layer in layers)


def encoder_sizes(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of the encoder, or of a tokenizer, that the weights of a file show.

    Args:
        layout: of the file.
        state: its tensors under our names.
    """
    shapes = Shapes(state)
    if "codebook" in shapes:
        return known_sizes(
            patch_widths=shapes.patch_widths("embed."),
            embed_dim=shapes.size("embed.second_conv.3.weight"),
            num_tokens=shapes.size("codebook"),
            token_dim=shapes.size("codebook", 1),
            decoder_dim=shapes.size("contextualise.output.weight"),
            group_size=_times(shapes.size("decoder.mlp.4.weight"), _COARSE, 3),
        )
    if depths := layout.sizes.get("depths"):
        return known_sizes(
            depths=depths,
            dims=tuple(
                shapes.size(f"backbone.pos_embeds.{scale}.2.weight") for scale in range(len(depths))
            ),
            patch_widths=shapes.patch_widths("backbone.tokenizers.0.embed."),
        )
    embedded = shapes.size("backbone.tokenizer.embed.second_conv.3.weight")
    return known_sizes(
        dim=shapes.size("backbone.pos_embed.2.weight"),
        depth=shapes.count(r"backbone\.blocks\.(\d+)\.") or None,
        patch_widths=shapes.patch_widths("backbone.tokenizer.embed."),
        embed_dim=embedded if "backbone.tokenizer.project.weight" in shapes else None,
        group_size=_times(shapes.size("increase_dim.weight"), 1, 3)
        or _times(shapes.size("dvae.decoder.mlp.4.weight"), _COARSE, 3),
    )


def objective_sizes(
    layout: Layout, state: Mapping[str, Tensor], views: int = NUM_VIEWS
) -> dict[str, Any]:
    """Settings of pre-training that the weights of a file show; none for other tasks.

    Args:
        layout: of the file.
        state: its tensors under our names.
        views: of a cloud, that an image teacher is shown.
    """
    shapes = Shapes(state)
    if layout.task != "pretraining" or "codebook" in shapes:
        return {}
    steps = shapes.count(r"decoder\.pos_embeds\.(\d+)\.")
    members = _times(shapes.size("rec_head.weight"), 1, 3)
    channels = _times(shapes.size("feature_head.weight"), 1, views * (members or 1))
    depths, residuals = (
        tuple(shapes.count(rf"decoder\.{pattern.format(i)}\.(\d+)\.") for i in range(count))
        for pattern, count in ((r"stages\.{}", steps), (r"propagations\.{}\.residuals", steps - 1))
    )
    return known_sizes(
        decoder_depth=shapes.count(r"decoder\.blocks\.(\d+)\.") or None,
        center_depth=shapes.count(r"center_blocks\.blocks\.(\d+)\.") or None,
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
    shapes, counts = Shapes(state), dict[str, Any]()
    for key, pattern in {"num_classes": r"head\.\d+\.weight", "num_parts": r"fc\d\.weight"}.items():
        layers = sorted(name for name in state if re.fullmatch(rf"(?:model\.)?{pattern}", name))
        if layers and (count := shapes.size(layers[-1].removeprefix("model."))) is not None:
            counts[key] = count
    if categories := shapes.size("category.linear.weight", 1):
        counts["num_categories"] = categories
    return counts


def _times(size: int | None, factor: int, divisor: int) -> int | None:
    return None if size is None else size * factor // divisor


def known_sizes(**sizes: Any) -> dict[str, Any]:
    """Those that the file shows, as a whole."""
    return {
        name: size
        for name, size in sizes.items()
        if size is not None and not (isinstance(size, tuple) and None in size)
    }


log = logging.getLogger("pointpeft")

_WRAPPERS = ("base_model", "model", "model_state_dict", "state_dict")
_PREFIXES = re.compile(r"^(?:(?:module|model|_orig_mod)\.)+")

WRITTEN_HERE = "pointpeft"
"""Under which a published file that was written here says what its tensors do not show."""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read weights under our names from a safetensors file or a published pickle.

    A safetensors file is one of ours, or holds published weights, as those of torch-pointcloud do.
    Pickles are read with ``weights_only=True``: they may hold tensors and numbers, never code.

    Raises:
        CheckpointError: no such file, not a checkpoint, code in a pickle, unknown layout, or a
            checkpoint that a run of ours resumes from.
    """
    path = existing_weights(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_published(path)


def load_into(model: Loadable, path: str | Path) -> LoadReport:
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
    log.info("%s: %s", shown_path(path), report)
    return report


def _read_safetensors(path: Path) -> Checkpoint:
    state, metadata = read_safetensors(path)
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    if not {"name", "task"} <= metadata.keys():
        if "bank_ids" in metadata:
            raise CheckpointError(
                f"{path} does not hold a pointpeft model; it is an adapter: use load_adapter"
            )
        return _recognised(path, as_published(_without_prefix(state)), {})
    if metadata["task"] == "features":
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    title = f"pointpeft {metadata['name']}, {metadata['task']}"
    return Checkpoint(path, title, state, metadata)


def _read_published(path: Path) -> Checkpoint:
    content = read_torch_file(path)
    state = _without_prefix(_unwrap(path, content))  # refuses what is no mapping
    facts = content.get(WRITTEN_HERE)
    notes = checked_notes(facts, path) if isinstance(facts, Mapping) else {}
    return _recognised(path, state, notes)


def _recognised(path: Path, state: dict[str, Tensor], metadata: dict[str, Any]) -> Checkpoint:
    """Weights under published names."""
    layout = recognise(list(state), LAYOUTS)
    if layout is None:
        raise CheckpointError(_unknown(path, list(state)))
    layout = by_positions(layout, state)
    return Checkpoint(path, layout.name, layout.ours(state), metadata, layout)


def _unwrap(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict inside a file: the one under a usual name, or the only one that there is."""
    entries = content if isinstance(content, Mapping) else {}
    inside = {str(key): state for key, value in entries.items() if (state := _tensors(value))}
    found = [inside[key] for key in _WRAPPERS if key in inside][:1]
    found = found or [plain for plain in [_tensors(content)] if plain] or list(inside.values())
    if len(found) != 1:
        raise CheckpointError(
            f"{path} holds {len(found) or 'no'} state dicts, mappings of names to tensors, under "
            f"its entries {enumerate_names(inside or entries)}; save the one that is meant to a "
            "file of its own, as `state_dict`"
        )
    return found[0]


def _tensors(content: object) -> dict[str, Tensor]:
    """The entries of a mapping that are tensors under names; none of anything else."""
    entries = content.items() if isinstance(content, Mapping) else ()
    return {
        name: tensor
        for name, tensor in entries
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers put before them, such as data parallelism and compilers.

    A word of another wrapper, before all names, is left out if what is behind it is known.
    """
    plain = {_PREFIXES.sub("", name): tensor for name, tensor in state.items()}
    behind = {_PREFIXES.sub("", name.partition(".")[2]): tensor for name, tensor in plain.items()}
    wrapped = len({name.partition(".")[0] for name in plain}) == 1
    if wrapped and not recognise(list(plain), LAYOUTS) and recognise(list(behind), LAYOUTS):
        return behind
    return plain


def _unknown(path: Path, names: list[str]) -> str:
    """Why a file with these entries is refused."""
    first = enumerate_names(names)
    if path.suffix == ".safetensors":
        return (
            f"{path} does not hold a pointpeft model, and none of Point-BERT, Point-MAE and "
            f"Point-M2AE by torch-pointcloud; its first entries: {first}"
        )
    if any(name.startswith(("backbone.", "tuner.")) for name in names):
        run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
        return (
            f"{path} is what a training run of pointpeft resumes from, not a file of weights: pass "
            f"the folder of that run, {run}, or go on with the run by `resume`"
        )
    known = ", ".join(each.name for each in LAYOUTS)
    return f"{path} is of no known layout; its first entries: {first}; known: {known}"
