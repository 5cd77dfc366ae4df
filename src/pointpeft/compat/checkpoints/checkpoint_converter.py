"""From published files to ours: safetensors, and for tuned models an adapter beside its encoder."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointpeft.compat.checkpoints.attaching import fill_tuned
from pointpeft.compat.checkpoints.bank_files import Beside
from pointpeft.compat.checkpoints.checkpoint_reader import (
    encoder_sizes,
    head_sizes,
    objective_sizes,
    read_checkpoint,
)
from pointpeft.create import create_model, stated_objective
from pointpeft.data import InputTransform
from pointpeft.data.benchmarks.stored import DATASETS
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.files import with_tuples
from pointpeft.locations import ADAPTER, ENCODER
from pointpeft.models import get_entry, list_models, save_model
from pointpeft.models.checkpoint import Checkpoint, LoadReport, fill
from pointpeft.models.loadable import Loadable
from pointpeft.models.trunk import Trunk
from pointpeft.peft.model import PeftModel
from pointpeft.vision import make_views
from pointpeft.vision.projection import NUM_VIEWS

__all__ = ["convert", "describe_published", "save_tuned"]

log = logging.getLogger("pointpeft")


def describe_published(
    adapted: PeftModel, preset: str | None, classes: Sequence[str] | None
) -> None:
    """Note what is needed to predict with a published model; what is assumed is logged.

    Args:
        adapted: a tuned classifier.
        preset: the data set that it was trained on, as far as that is known.
        classes: names of its classes; by default those of the data set that ``preset`` is named
            after, if there are as many.

    Raises:
        ConfigError: there are more or fewer names than classes, or a name occurs twice.
    """
    count, spec = adapted.sizes["num_classes"], adapted.base_spec
    of_set = [d for d in DATASETS.values() if preset and d.name.startswith(preset)]
    found = next((data for data in of_set if len(data.class_names) == count), None)
    if not classes and found is None:
        log.warning(
            "the file does not name its %s classes: give --classes FILE (`classes` in Python), or "
            "the adapter can be loaded but predicts no names", count,
        )  # fmt: skip
    elif not classes and found is not None:
        log.info("classes: those of %s", found.title)
        classes = found.class_names
    entry = get_entry(spec.name)
    known = entry.presets.get(preset or "")
    normalize = known.normalize if known else entry.normalize
    if known is None:
        log.warning(
            "no preset: the model is taken to be trained on clouds of %d points, normalize=%s",
            spec.num_points, normalize,
        )  # fmt: skip
    adapted.describe(classes, InputTransform(spec.num_points, normalize))  # type: ignore[arg-type]


_NEVER_ASSUMED = ("drop_path", "embed_dim")
"""Settings of the encoder that change nothing in its function, or are None where not shown."""


def convert(
    source: str | Path,
    target: str | Path,
    name: str | None = None,
    preset: str | None = None,
    bank: str | Path | None = None,
    encoder: str | Path | None = None,
    backbone: Mapping[str, Any] | None = None,
    peft: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> LoadReport:
    """Write a published checkpoint in our form.

    What network it is, in which sizes and of how many classes or parts, is seen from the file. What
    no tensor shows (heads, numbers and sizes of groups, radii, pooling) a file that was written
    here states; of others it is taken from ``backbone`` and ``preset``, or else assumed, and what
    was assumed is logged.

    Args:
        source: a published ``.pth`` file.
        target: the ``.safetensors`` file to write. For a tuned model, a folder, which gets the
            encoder as ``backbone.safetensors`` and its ``adapter``; of a name that ends in
            ``.safetensors`` the folder is called without it.
        name: registry name, where files of several models look alike (fine-tuned I2P-MAE is taken
            for Point-M2AE).
        preset: sizes that a file does not show: numbers and sizes of groups, pooling, sampling.
        bank: published memory bank of a tuned model; None: the one beside the file; "none": the
            model is to retrieve nothing.
        encoder: checkpoint of the encoder that was tuned, which makes the bank's queries; None: the
            one beside the file.
        backbone: settings of the encoder, over all others.
        peft: settings of the tuning method that the file does not show, over those that it states.
        classes: names of the classes of a tuned model, in the order of its outputs; by default
            those of the data set that ``preset`` is named after, if there are as many.

    Returns:
        What was used, left, and not found.

    Raises:
        CheckpointError: not a published checkpoint, it does not fit the model, or the bank or the
            encoder of a tuned model is missing or of another one.
        ConfigError: a setting is unknown, or is one that the file has another value of; or
            ``target`` is there already.
    """
    if Path(target).is_file() or (_tuned_folder(target) / ENCODER).is_file():
        raise ConfigError(f"`target` {target} is there already; name another one")
    content = read_checkpoint(source)
    layout = content.layout
    if layout is None:
        raise CheckpointError(f"{source} is {content.title} already: there is nothing to convert")
    if not layout.tuned and (bank is not None or encoder is not None or peft):
        raise CheckpointError(f"{source} is {content.title}, which has neither bank nor adapter")
    asked = with_tuples(backbone or {})
    model = _model(content, name, preset, asked)
    if not layout.tuned:
        report = fill(model, content)
        save_model(model, target)
        return report
    adapted, report = fill_tuned(model, content, peft or {})
    base, adapted = Beside.of(content, bank, encoder).complete(adapted)
    describe_published(adapted, preset, classes)
    save_tuned(adapted, base, _tuned_folder(target))
    return report


def _tuned_folder(target: str | Path) -> Path:
    """The folder that a tuned model becomes: a name for a file stands for one without its end."""
    target = Path(target)
    return target.with_suffix("") if target.suffix == ".safetensors" else target


def save_tuned(adapted: PeftModel, encoder: Trunk, folder: str | Path) -> None:
    """Write an adapter into ``folder/adapter``, and beside it the plain encoder that it is for."""
    save_model(encoder, Path(folder) / ENCODER)
    adapted.base_checkpoint = f"../{ENCODER}"
    adapted.save_pretrained(Path(folder) / ADAPTER)


def _model(
    content: Checkpoint, name: str | None, preset: str | None, asked: Mapping[str, Any]
) -> Loadable:
    """A fresh network for a file: as it states, by a preset, as it shows, and as is asked for."""
    layout, state = content.layout, content.state
    assert layout is not None, "a published file"
    stated = content.metadata if content.metadata.get("name") in list_models() else {}
    name = name or stated.get("name") or layout.model
    config = get_entry(name).config
    own = {k: v for k, v in stated.get("config", {}).items() if hasattr(config, k)}
    shown = encoder_sizes(layout, state)
    if wrong := [f"{k}={shown[k]}, not {v}" for k, v in asked.items() if shown.get(k, v) != v]:
        raise ConfigError(f"{content.source} is of another size: {', '.join(wrong)}")
    chosen = {**shown, **asked}
    presets = get_entry(name).presets
    sizes = presets[preset].overrides if preset in presets else {}
    if "pooling" not in {**own, **sizes, **asked} and _concatenates(content, shown):
        chosen["pooling"] = "concat_all" if name.startswith("i2p_mae") else "concat"
    stated_here = {} if layout.tuned else with_tuples({k: own[k] for k in own if k in sizes})
    if wrong := [f"{k}={v}, not {sizes[k]}" for k, v in stated_here.items() if v != sizes[k]]:
        raise ConfigError(
            f"{content.source} disagrees with the preset {preset}: {', '.join(wrong)}"
        )
    if "num_points" in stated and preset is None:
        own["num_points"] = stated["num_points"]
    objective, views = stated_objective(content, get_entry(name)), NUM_VIEWS
    if "views" in objective:
        views = make_views(objective["views"], objective["num_views"]).count
    counts = {**head_sizes(state), **objective, **objective_sizes(layout, state, views)}
    model: Loadable = create_model(
        name, task=layout.task, preset=preset, **{**own, **chosen, **counts}
    )
    _say_assumed(content, model, {*own, *sizes, *chosen, *counts})
    return model


def _concatenates(content: Checkpoint, shown: Mapping[str, Any]) -> bool:
    """Whether the head of a hierarchical classifier is given mean and maximum side by side."""
    state = content.state
    weight = state.get("head.0.weight", state.get("model.head.0.weight"))
    width = () if weight is None else weight.shape[-1:]
    return "dims" in shown and width == (2 * shown["dims"][-1],)


def _say_assumed(content: Checkpoint, model: Loadable, known: set[str]) -> None:
    """Name the settings that neither the file nor the caller states."""
    config = model.core.config
    assumed = [
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name not in known and field.name not in _NEVER_ASSUMED
    ]
    if assumed:
        log.warning(
            "%s: assumed, as the file does not show it: %s; pass others as settings of `backbone`, "
            "or a preset",
            content.source, ", ".join(assumed),
        )  # fmt: skip
