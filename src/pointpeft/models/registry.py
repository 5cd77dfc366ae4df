"""Models by name, and from a name to a fresh network."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.files import with_tuples
from pointpeft.models.entries import ENTRIES, ModelEntry, Preset
from pointpeft.models.heads import Classifier
from pointpeft.models.loadable import Core, ModelSpec
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.trunk import Trunk

__all__ = [
    "ModelEntry",
    "Preset",
    "build_backbone",
    "build_classifier",
    "build_core",
    "build_segmenter",
    "check_known",
    "get_entry",
    "list_models",
]

_BY_NAME = {entry.name: entry for entry in ENTRIES}


def list_models() -> list[str]:
    """Names that :func:`pointpeft.create_model` accepts."""
    return sorted(_BY_NAME)


def get_entry(name: str) -> ModelEntry:
    """The registry entry called ``name``.

    Raises:
        ConfigError: the name is unknown; the message proposes the nearest ones.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise ConfigError(
        f"unknown model {name!r}: {_proposal(name)}known models: {', '.join(list_models())}"
    )


def _proposal(name: str) -> str:
    """ "did you mean 'x'? " with the names that are spelled so, that hold it, or that resemble."""
    asked = _letters(name)
    found = [known for known in list_models() if asked and asked in _letters(known)]
    meant = [known for known in found if asked == _letters(known)] or found
    if meant:
        return f"did you mean {' or '.join(map(repr, meant))}? "
    return nearest_hint(name.lower(), list_models())


def _letters(name: str) -> str:
    """A name as it is compared: without case, hyphens and underscores."""
    return re.sub(r"[-_\s]", "", name.lower())


def build_backbone(name: str, settings: dict[str, Any]) -> Trunk:
    """A fresh encoder called ``name`` with ``settings`` (and ``num_points``) over its defaults.

    Raises:
        ConfigError: the name or a setting is unknown, or the name is that of a tokenizer.
    """
    core = build_core(name, settings)
    if not isinstance(core, Trunk):
        raise ConfigError(f"model {name!r} is a tokenizer: it has no encoder")
    return core


def build_core(name: str, settings: dict[str, Any]) -> Core:
    """The same, or the tokenizer called ``name``."""
    entry = get_entry(name)
    settings = {"num_points": entry.num_points, **settings}
    num_points = settings.pop("num_points")
    check_known(settings, entry, also=())
    config = dataclasses.replace(entry.config, **with_tuples(settings))
    build: Callable[[Any], Core] | None = entry.backbone or entry.tokenizer
    assert build is not None, "an entry has one or the other"
    core = build(config)
    core.spec = ModelSpec(name, dataclasses.asdict(config), num_points)
    return core


def build_classifier(backbone: Trunk, num_classes: int) -> Classifier:
    """The classification model around an encoder made by :func:`pointpeft.create_model`."""
    build = get_entry(backbone.spec.name).classifier
    assert build is not None, "every encoder has one"
    return build(backbone, num_classes)


def build_segmenter(backbone: Trunk, num_parts: int, num_categories: int) -> PartSegmenter:
    """The part-segmentation model around an encoder made by ``create_model``.

    Args:
        backbone: the encoder, which becomes part of the model.
        num_parts: parts of all categories together.
        num_categories: categories whose parts they are.

    Raises:
        ConfigError: there is no such network for this encoder, or it is not deep enough.
    """
    entry = get_entry(backbone.spec.name)
    if entry.segmenter is None:
        raise ConfigError(
            f"{entry.name!r} is for {', '.join(entry.tasks)}, not for part_segmentation"
        )
    return entry.segmenter(backbone, num_parts, num_categories)


_SIZES = ("num_classes", "num_parts", "num_categories")
"""Of heads, which are no settings of an encoder but may be meant."""


def check_known(settings: Iterable[str], entry: ModelEntry, also: Sequence[str]) -> None:
    """Refuse settings that an entry does not have; ``also`` are others that it may be given.

    Raises:
        ConfigError: the message proposes the nearest one.
    """
    valid = [*(f.name for f in dataclasses.fields(entry.config)), "num_points", *also]
    for key in settings:
        if key not in valid:
            raise ConfigError(
                f"model {entry.name!r} has no setting {key!r}: "
                f"{nearest_hint(key, [*valid, *_SIZES])}"
                f"settings: {', '.join(sorted(valid))}"
            )
