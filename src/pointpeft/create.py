"""``create_model``: from a name, and weights if there are any, to a network."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pointpeft.compat.checkpoints.attaching import attach
from pointpeft.compat.checkpoints.checkpoint_reader import (
    encoder_sizes,
    objective_sizes,
    read_checkpoint,
)
from pointpeft.compat.pretraining import with_faults
from pointpeft.errors import CheckpointError, ConfigError, nearest_hint
from pointpeft.files import shown_path, with_tuples
from pointpeft.locations import EMBEDDED, names_embedded, noted_place, resolve_checkpoint
from pointpeft.models.checkpoint import Checkpoint, LoadReport, WrongEncoderError, fill
from pointpeft.models.loadable import Loadable, Task
from pointpeft.models.network import Network
from pointpeft.models.objective import Pretraining
from pointpeft.models.registry import (
    ModelEntry,
    build_classifier,
    build_core,
    build_segmenter,
    check_known,
    get_entry,
    list_models,
)
from pointpeft.models.safetensors_files import saved_name, saved_sizes
from pointpeft.models.trunk import Trunk
from pointpeft.peft.model import PeftModel

__all__ = [
    "create_model",
    "has_embedded_weights",
    "model_card",
    "stated_objective",
    "stated_sizes",
]

log = logging.getLogger("pointpeft")


def create_model(
    name: str,
    task: Task | None = None,
    preset: str | None = None,
    num_classes: int | None = None,
    num_parts: int | None = None,
    num_categories: int = 16,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    reset_head: bool = False,
    peft: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Any:
    """Build a model of the registry.

    Args:
        name: one of :func:`list_models`.
        task: "features" (the default): an encoder that returns tokens and centers;
            "classification" (the default with ``num_classes``): logits; "part_segmentation" (the
            default with ``num_parts``): logits of every point; "pretraining": losses.
        preset: "modelnet40" or "scanobjectnn" fix sizes and the sampling rule of the papers.
        num_classes: number of logits, for classification.
        num_parts: parts of all categories together, for part segmentation.
        num_categories: categories whose parts they are.
        checkpoint: weights to load: a released ``.pth`` file, one of ours or of torch-pointcloud
            (``.safetensors``), the folder of a pre-training run, or either on the hub,
            ``hf://owner/name``; "embedded" is the same as ``pretrained=True``.
            A released file of Point-PEFT gives a :class:`pointpeft.peft.PeftModel`.
        pretrained: load the weights that the package ships for this name.
        reset_head: begin with a fresh head where the checkpoint has one too, for other classes.
        peft: settings of the tuning method that a released file of a tuned model does not show,
            such as ``{"group_pooling": "mean+max"}``.
        **overrides: settings of the encoder or of pre-training that win over the preset, for
            instance ``num_groups=32``, and ``num_points``. A checkpoint of ours brings its own.

    Returns:
        A freshly initialised or loaded ``nn.Module``, in train mode. Its encoder (the module
        itself or its ``backbone``) carries a ``spec``, and as ``loaded_from`` where its weights
        came from: "embedded", an absolute path, an address on the hub, or None.

    Raises:
        ConfigError: unknown name, preset or setting, or settings that exclude each other.
        CheckpointError: the checkpoint is missing, unsafe, or does not fit the model.

    Example:
        >>> import pointpeft as pp, torch
        >>> model = pp.create_model("point_mae_small", num_classes=4).eval()
        >>> model(torch.rand(2, 1024, 3)).shape
        torch.Size([2, 4])
    """
    entry = get_entry(name)
    chosen = _choose_task(entry, task, num_classes, num_parts)
    if not isinstance(pretrained, bool):
        raise ConfigError(f"pretrained must be True or False, got {pretrained!r}")
    if pretrained and checkpoint:
        raise ConfigError("pass either pretrained=True or checkpoint=..., not both")
    if pretrained := pretrained or names_embedded(checkpoint, name):
        checkpoint = _embedded_weights(entry)
    content = None
    if checkpoint:
        given, checkpoint = checkpoint, resolve_checkpoint(checkpoint)
        _check_held(checkpoint, entry, chosen)
        content = read_checkpoint(checkpoint)
    objective = {}
    if chosen == "pretraining":
        stated = stated_objective(content, entry) if content else {}
        objective = stated | _split_settings(entry, overrides)
    settings = stated_sizes(content, entry, chosen) if content else {}
    core = build_core(name, settings | _preset_settings(entry, preset) | overrides)
    model: Loadable | PeftModel
    if not isinstance(core, Trunk):
        model = core
    elif chosen == "pretraining":
        model = _objective_on(core, entry, objective)
    else:
        model = _network_on(core, num_classes, num_parts, num_categories)
    if content:
        model = _load(model, content, entry, chosen, reset_head, peft)
        core.loaded_from = EMBEDDED if pretrained else noted_place(given, content.source)
    elif peft:
        raise ConfigError("peft=... is for the released checkpoint of a tuned model")
    return model


def _objective_on(trunk: Trunk, entry: ModelEntry, settings: Mapping[str, Any]) -> Pretraining:
    """What pre-trains an encoder."""
    config = dataclasses.replace(entry.pretraining_config, **settings)
    assert entry.pretraining is not None, "the entry has the task"
    return with_faults(entry.pretraining, config)(trunk, config)


def _network_on(
    trunk: Trunk, num_classes: int | None, num_parts: int | None, num_categories: int
) -> Trunk | Network:
    """An encoder with a head, with layers for parts, or as it is."""
    if num_classes is not None:
        return build_classifier(trunk, num_classes)
    if num_parts is not None:
        return build_segmenter(trunk, num_parts, num_categories)
    return trunk


def stated_sizes(content: Checkpoint, entry: ModelEntry, task: str) -> dict[str, Any]:
    """Settings of the encoder that a file states; of a published one, only what it cannot show.

    Where that is of another task, its groups and the like are not those of this one.
    """
    if content.layout is None:
        return saved_sizes(content.source)
    stated = content.metadata.get("config", {})
    shown = encoder_sizes(content.layout, content.state)
    same = content.task == task
    untraced = {
        key: value
        for key, value in stated.items()
        if key not in shown and hasattr(entry.config, key) and (same or key == "num_heads")
    }
    if same and "num_points" in content.metadata:
        untraced["num_points"] = content.metadata["num_points"]
    return untraced


def stated_objective(content: Checkpoint, entry: ModelEntry) -> dict[str, Any]:
    """Settings of pre-training that a file states; of a published one, those of its sizes alone.

    The teacher is no part of a file. Of another kind of model, they are the ones that this one has.
    """
    stated = content.metadata.get("pretraining", {})
    if content.layout is not None:
        shown = objective_sizes(content.layout, content.state)
        sizes = {key: value for key, value in shown.items() if not key.startswith("teacher")}
        stated = sizes | {key: stated[key] for key in ("views", "num_views") if key in stated}
    own = entry.pretraining_config
    return with_tuples({key: value for key, value in stated.items() if hasattr(own, key)})


def _check_held(path: str | Path, entry: ModelEntry, task: str) -> None:
    """Refuse a file of ours that holds another model than ``entry``."""
    held = saved_name(path)
    if held not in (None, entry.name):
        raise CheckpointError(
            f"{path} holds {held!r}, not {entry.name!r}: {_remedy(entry, held, task)}"
        )


def _load(
    model: Loadable,
    checkpoint: Checkpoint,
    entry: ModelEntry,
    task: str,
    reset_head: bool,
    peft: Mapping[str, Any] | None,
) -> Loadable | PeftModel:
    """The model with the weights of a checkpoint, under the method that it was tuned by."""
    layout = checkpoint.layout
    tuned = layout is not None and layout.tuned
    if peft and not tuned:
        raise ConfigError(
            f"{checkpoint.source} is {checkpoint.title}, of no tuning method: leave peft out"
        )
    try:
        loaded: Loadable | PeftModel = model
        if tuned:
            loaded, report = attach(model, checkpoint, peft or {}, reset_head)
        else:
            report = fill(model, checkpoint, reset_head)
    except WrongEncoderError as error:
        # One of the same network takes it too, as I2P-MAE does what is Point-M2AE's.
        if layout is None or get_entry(layout.model).config == entry.config:
            raise
        raise CheckpointError(
            f"{checkpoint.source} is {checkpoint.title}, but the model is {entry.name}: "
            f"{_remedy(entry, layout.model, task)}. {error}"
        ) from error
    _say(checkpoint, report, task)
    own = entry.name.removesuffix("_small")
    if layout is not None and layout.task == "pretraining" and layout.model != own:
        log.warning(
            "%s is %s, and is taken for %s, which has the same network and makes other features of "
            "it; `model`=%s takes it for what it is",
            checkpoint.source, checkpoint.title, entry.name, layout.model,
        )  # fmt: skip
    return loaded


def _remedy(entry: ModelEntry, held: str, task: str) -> str:
    """What to do with a file of the model ``held`` that was given for ``entry``."""
    other = get_entry(held) if held in list_models() else None
    if other is None or task not in other.tasks:
        return f"pass a file of {entry.name}"
    if other.tokenizer is not None and hasattr(entry.pretraining_config, "tokenizer"):
        return "pass it as the setting `tokenizer`"
    return f"`model`={held} takes the file"


def _say(checkpoint: Checkpoint, report: LoadReport, task: str) -> None:
    """Log what became of a checkpoint; warn where one of the same task should have had more.

    Of a released file, whose form others chose, it is a warning wherever the task has no use for
    an entry of it, or needs more.
    """
    reasons, same = tuple(report.reasons), checkpoint.task == task
    missing = [name for name in report.fresh if name not in reasons]
    unused = [name for name in report.left if same and not name.startswith(reasons)]
    partly = checkpoint.layout is not None and (unused or (missing and not same))
    file = shown_path(checkpoint.source)
    log.log(logging.WARNING if partly else logging.INFO, "%s: %s", file, report)
    if same and missing:
        log.warning(
            "%s is for %s too, but has nothing for %d entries, which keep their initial values "
            "(%s, ...); pass the settings that it was trained with",
            checkpoint.source, task, len(missing), missing[0],
        )  # fmt: skip


def _choose_task(
    entry: ModelEntry, task: str | None, num_classes: int | None, num_parts: int | None
) -> str:
    """The task that is named, or the one that the counts imply; both must agree."""
    implied = {"classification": num_classes, "part_segmentation": num_parts}
    given = [name for name, count in implied.items() if count is not None]
    task = task or (given[0] if given else entry.tasks[0])
    if task not in get_args(Task):
        raise ConfigError(f"task must be one of {', '.join(get_args(Task))}, got {task!r}")
    if task not in entry.tasks:
        raise ConfigError(f"{entry.name!r} is for {', '.join(entry.tasks)}, not for {task}")
    if given != [task] * (task in implied):
        raise ConfigError(
            f"task {task!r} with num_classes={num_classes} and num_parts={num_parts}: num_classes "
            "belongs to classification and num_parts to part_segmentation, and each is needed there"
        )
    return task


def _preset_settings(entry: ModelEntry, name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in entry.presets:
        known = ", ".join(sorted(entry.presets)) or "none"
        hint = nearest_hint(name, list(entry.presets))
        raise ConfigError(f"model {entry.name!r} has no preset {name!r}: {hint}presets: {known}")
    preset = entry.presets[name]
    return {"num_points": preset.num_points, **preset.overrides}


def _split_settings(entry: ModelEntry, overrides: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of pre-training out of ``overrides``."""
    config = entry.pretraining_config
    own = [f.name for f in dataclasses.fields(config)] if config is not None else []
    check_known(overrides, entry, also=own)
    return with_tuples({key: overrides.pop(key) for key in own if key in overrides})


def has_embedded_weights(name: str) -> bool:
    """Whether the package ships weights for the model called ``name``."""
    return _weights_path(get_entry(name)).is_file()


def model_card(name: str) -> Path:
    """Where the card of the weights in the package lies, if there are some."""
    return _weights_path(get_entry(name)).with_suffix(".md")


def _weights_path(entry: ModelEntry) -> Path:
    return Path(__file__).parent / "models" / "weights" / f"{entry.name}.safetensors"


def _embedded_weights(entry: ModelEntry) -> Path:
    path = _weights_path(entry)
    if not path.is_file():
        raise CheckpointError(
            f"the package ships no weights for {entry.name!r}; "
            "pass checkpoint=... or pre-train with `pointpeft pretrain`"
        )
    return path
