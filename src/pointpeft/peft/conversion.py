"""From published files to ours: safetensors, and for tuned models an adapter beside its encoder."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.locations import ADAPTER, ENCODER
from pointpeft.models import ModelSpec, build_classifier, create_model, save_model
from pointpeft.models.checkpoint import Checkpoint, read_checkpoint
from pointpeft.models.filling import LoadReport, fill
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.describing import describe_published
from pointpeft.peft.model import PeftModel, get_peft_model

__all__ = ["convert", "head_sizes", "on_encoder", "save_tuned"]


def convert(
    source: str | Path,
    target: str | Path,
    name: str | None = None,
    preset: str | None = None,
    bank: str | Path | None = None,
    encoder: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> LoadReport:
    """Write a published checkpoint in our form.

    What network it is, and of how many classes or parts, is seen from the file.

    Args:
        source: a published ``.pth`` file.
        target: the ``.safetensors`` file to write. For a tuned model, a folder, which gets the
            encoder as ``backbone.safetensors`` and its ``adapter``.
        name: registry name, where files of several models look alike (fine-tuned I2P-MAE is taken
            for Point-M2AE).
        preset: sizes that a file does not show: numbers and sizes of groups, pooling, sampling.
        bank: published memory bank of a tuned model.
        encoder: checkpoint of the encoder that was tuned, which makes the bank's queries; without
            it the encoder of ``source`` does, whose biases were tuned.
        classes: names of the classes of a tuned model, in the order of its outputs; by default
            those of the data set that ``preset`` is named after, if there are as many.

    Returns:
        What was used, left, and not found.

    Raises:
        CheckpointError: not a published checkpoint, or it does not fit the model.
        ConfigError: ``target`` is there already.
    """
    if Path(target).is_file() or (Path(target) / ENCODER).is_file():
        raise ConfigError(f"`target` {target} is there already; name another one")
    content = read_checkpoint(source)
    layout = content.published
    if layout is None:
        raise CheckpointError(f"{source} is {content.layout} already: there is nothing to convert")
    name = name or layout.model
    settings = {**head_sizes(content), **_objective(content, name, layout.task)}
    model = create_model(name, task=layout.task, preset=preset, **settings)
    if layout.attach is not None:
        tuned = layout.attach(model, content)
        report = fill(tuned, content)
        base, adapted = on_encoder(tuned, content, encoder)
        if bank is not None:
            adapted.set_bank(MemoryBank.import_published(bank), base)
        describe_published(adapted, preset, classes)
        save_tuned(adapted, base, target)
        return report
    if bank is not None or encoder is not None:
        raise CheckpointError(f"{source} is {content.layout}, which has neither bank nor adapter")
    report = fill(model, content)
    save_model(model, target)
    return report


def on_encoder(
    tuned: PeftModel, content: Checkpoint, encoder: str | Path | None
) -> tuple[Any, PeftModel]:
    """The plain encoder, and the tuned model made anew from it, so that it knows its base.

    Args:
        tuned: what the layout of ``content`` attached.
        content: a published file of a tuned model.
        encoder: checkpoint of the encoder; None: made of the matrices of ``tuned``.

    Raises:
        CheckpointError: the tuned model was made from another encoder.
    """
    spec: ModelSpec = tuned.base_spec
    sizes = {**spec.config, "num_points": spec.num_points}
    base = create_model(spec.name, checkpoint=encoder, **sizes)
    frozen = {
        name.removeprefix("model.backbone.").replace(".block.", "."): tensor
        for name, tensor in tuned.state_dict().items()
        if name.startswith("model.backbone.")
    }
    own = base.state_dict()
    if encoder is None:
        base.load_state_dict({name: frozen[name] for name in own})
    elif differing := [n for n, t in own.items() if t.ndim > 1 and not torch.equal(t, frozen[n])]:
        raise CheckpointError(
            f"{content.source} was not tuned from the encoder in {encoder}: {len(differing)} "
            f"frozen matrices differ, {differing[0]} first"
        )
    model = build_classifier(copy.deepcopy(base), tuned.model.num_classes)
    adapted = get_peft_model(model, tuned.config)
    fill(adapted, content)
    return base, adapted


def save_tuned(adapted: PeftModel, encoder: Any, folder: str | Path) -> None:
    """Write an adapter into ``folder/adapter``, and beside it the plain encoder that it is for."""
    save_model(encoder, Path(folder) / ENCODER)
    adapted.base_checkpoint = f"../{ENCODER}"
    adapted.save_pretrained(Path(folder) / ADAPTER)


def head_sizes(content: Checkpoint) -> dict[str, Any]:
    """Numbers of classes, or of parts and categories, as the last layers of a file show them."""
    heads = {
        "num_classes": r"(model\.)?head\.\d+\.weight",
        "num_parts": r"fc\d\.weight",
    }
    counts = {}
    for key, pattern in heads.items():
        layers = sorted(name for name in content.state if re.fullmatch(pattern, name))
        if layers:
            counts[key] = len(content.state[layers[-1]])
    if "category.linear.weight" in content.state:
        counts["num_categories"] = content.state["category.linear.weight"].shape[1]
    return counts


def _objective(content: Checkpoint, name: str, task: str) -> dict[str, Any]:
    """Settings of pre-training that the weights hang on."""
    if task != "pretraining":
        return {}
    if name.startswith("i2p_mae"):  # the teacher is no part of them
        return {"teacher": "random"}
    return {"queue_size": content.state["queue"].shape[1]} if "queue" in content.state else {}
