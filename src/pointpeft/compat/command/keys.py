"""Settings under their published names, translated into ours."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointpeft.compat.command.values import MEANINGS, ONLY, SCALES, Given, check_only, parsed
from pointpeft.errors import ConfigError, PointPeftError
from pointpeft.training.config import FinetuneConfig, PretrainConfig, SvmConfig
from pointpeft.training.config_files import setting_names

__all__ = ["PUBLISHED_KEYS", "Translation", "list_keys", "named_as_typed", "translate"]

PUBLISHED_KEYS: Mapping[str, str | tuple[str, ...]] = {
    # training
    "max_epoch": "trainer.epochs",
    "total_bs": "trainer.batch_size",
    "grad_norm_clip": "optimizer.grad_clip",
    "optimizer.kwargs.lr": "optimizer.lr",
    "optimizer.kwargs.weight_decay": "optimizer.weight_decay",
    "scheduler.kwargs.epochs": "optimizer.cosine_epochs",
    "scheduler.kwargs.initial_epochs": "optimizer.warmup_epochs",
    # data
    "dataset.train.others.npoints": "data.num_points",
    "dataset.val.others.npoints": "data.num_points",
    "dataset.test.others.npoints": "data.num_points",
    "dataset.train.others.num_points": "data.num_points",
    "dataset.val.others.num_points": "data.num_points",
    "dataset.test.others.num_points": "data.num_points",
    "dataset.svm.train.others.num_points": "svm.num_points",
    "dataset.svm.val.others.num_points": "svm.num_points",
    "dataset.svm.test.others.num_points": "svm.num_points",
    "dataset.train.others.way": "few_shot.way",
    "dataset.train.others.shot": "few_shot.shot",
    "dataset.train.others.fold": "few_shot.fold",
    # encoder
    "model.num_group": "backbone.num_groups",
    "model.num_groups": "backbone.num_groups",
    "model.group_size": "backbone.group_size",
    "model.group_sizes": "backbone.group_sizes",
    "model.trans_dim": "backbone.dim",
    "model.depth": "backbone.depth",
    "model.encoder_depths": "backbone.depths",
    "model.drop_path_rate": "backbone.drop_path",
    "model.local_radius": "backbone.local_radius",
    "model.masking_radius": "backbone.local_radius",  # so Point-PEFT's config calls them
    "model.depths": "backbone.depths",
    # objective
    "model.smooth": "label_smoothing",
    "model.loss": "pretraining.loss",
    "model.mask_ratio": "pretraining.mask_ratio",
    "model.mask_type": "pretraining.mask_type",
    "model.decoder_depth": "pretraining.decoder_depth",
    "model.decoder_depths": "pretraining.decoder_depths",
    "model.decoder_num_heads": "pretraining.decoder_num_heads",
    "model.clip_config.visual_encoder": "pretraining.teacher",
    # Point-BERT and its tokenizer
    "model.cls_dim": "pretraining.feature_dim",
    "model.replace_pob": "pretraining.replace_probability",
    "model.mask_rand": "pretraining.random_mask",
    "model.moco_loss": "pretraining.moco_loss",
    "model.dvae_loss": "pretraining.token_loss",
    "model.cutmix_loss": "pretraining.mix_loss",
    "model.return_all_tokens": "pretraining.all_tokens",
    "model.T": "pretraining.temperature",
    "model.K": "pretraining.queue_size",
    "model.m": "pretraining.momentum",
    "model.num_tokens": ("pretraining.num_tokens", "backbone.num_tokens"),
    "model.tokens_dims": ("pretraining.token_dim", "backbone.token_dim"),
    "model.decoder_dims": ("pretraining.decoder_dim", "backbone.decoder_dim"),
}
"""Published key -> ours; of several, the first that the model has. ``model.transformer_config.x``
and ``model.dvae_config.x`` are read as ``model.x``."""

_NESTED = ("model.transformer_config.", "model.dvae_config.")
_VALUES: Mapping[str, Mapping[str, str]] = {
    "model.loss": {"cdl1": "l1", "cdl2": "l2"},
    "model.mask_type": {"rand": "random", "block": "block"},
}
_FREE = ("backbone.", "peft.", "pretraining.")  # whose keys are checked with the model


@dataclass(frozen=True)
class Translation:
    """Overrides in our words.

    Attributes:
        overrides: ``key=value`` with our dotted keys.
        notes: published keys that mean nothing for the command at hand.
        typed: what was given under a published key, by the override that it has become.
    """

    overrides: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)


def translate(overrides: Iterable[str], settings: Any) -> Translation:
    """Take overrides under published names or ours to ours.

    Args:
        overrides: for instance ``["max_epoch=1", "optimizer.lr=1e-3"]``.
        settings: a config of the command that they are for; its model decides which of several
            settings a key means.

    Raises:
        ConfigError: no ``key=value``, a key of neither vocabulary (the nearest of each is named),
            or a value that cannot be had.
    """
    known, overrides = setting_names(type(settings)), list(overrides)
    beside = {}
    for override in overrides:
        _check_key(override, known)  # all of them, before models are imported for one
        key, _, value = override.partition("=")
        beside[_plain(key)] = parsed(value)
    found = Translation()
    for override in overrides:
        key, _, value = override.partition("=")
        name = _plain(key)
        if name == "model.cls_dim" and "pretraining" not in known:
            _check_classes(override, value, settings)
        elif name in ONLY:
            check_only(name, override)
        elif name in MEANINGS or (name in SCALES and _has_scales(settings)):
            explain = MEANINGS.get(name) or SCALES[name]
            meaning = explain(Given(override, name, beside[name], settings, beside))
            for ours in meaning.overrides:
                _take(found, ours, override, known)
            found.notes.extend([meaning.note] if meaning.note else [])
        elif name in PUBLISHED_KEYS:
            target = _choose(PUBLISHED_KEYS[name], settings)
            _take(found, f"{target}={_value(name, value, override)}", override, known)
        else:
            found.overrides.append(override)
    return found


def _take(found: Translation, ours: str, typed: str, known: Sequence[str]) -> None:
    """Note an override in our words, or that the command has no such setting."""
    target = ours.partition("=")[0]
    if target in known or target.partition(".")[0] in known:
        found.overrides.append(ours)
        found.typed[ours] = typed
    else:
        found.notes.append(f"{typed} ({target}) has no effect here")


def _has_scales(settings: Any) -> bool:
    from pointpeft.models import get_entry

    return hasattr(get_entry(settings.model).config, "group_sizes")


@contextmanager
def named_as_typed(translation: Translation) -> Iterator[None]:
    """Let errors inside name settings by the published keys that they were given under as well."""
    try:
        yield
    except PointPeftError as error:
        text = str(error)
        for ours, typed in translation.typed.items():
            text = _as_typed(text, ours, typed)
        if text == str(error):
            raise
        raise type(error)(text) from error


def list_keys() -> dict[str, list[str]]:
    """Every key by whose it is: "published" or "ours"."""
    kinds = (FinetuneConfig, PretrainConfig, SvmConfig)
    ours = dict.fromkeys(name for kind in kinds for name in setting_names(kind))
    return {"published": published_keys(), "ours": list(ours)}


def published_keys() -> list[str]:
    """Every published key."""
    return [*PUBLISHED_KEYS, *MEANINGS, *ONLY]


def _as_typed(text: str, ours: str, typed: str) -> str:
    """The text with what was typed at the first place that names the override or its key."""
    for mine, given in ((ours, typed), (ours.partition("=")[0], typed.partition("=")[0])):
        if place := re.search(rf"(?<![\w.]){re.escape(mine)}(?![\w.])", text):
            return f"{text[: place.start()]}{given} ({mine}){text[place.end() :]}"
    return text


def _check_key(override: str, known: Sequence[str]) -> None:
    """Refuse what is no ``key=value``, or has a key of neither vocabulary."""
    key, equals, _ = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is no override: write key=value, as in max_epoch=1")
    published = published_keys()
    if _plain(key) in published or key in known or key.startswith(_FREE):
        return
    whose = dict.fromkeys(known, "ours") | dict.fromkeys(published, "published")
    near = [
        name for names in (published, known) for name in difflib.get_close_matches(key, names, n=1)
    ] or difflib.get_close_matches(key, whose, n=1, cutoff=0.0)
    proposed = " or ".join(f"{name!r} ({whose[name]})" for name in near)
    raise ConfigError(
        f"unknown key {key}; did you mean {proposed}?\nall keys: see python main.py --help"
    )


def _plain(key: str) -> str:
    """The key without the nesting that some published configs have."""
    if key in PUBLISHED_KEYS or key in MEANINGS:
        return key
    for nested in _NESTED:
        key = key.replace(nested, "model.")
    return key


def _choose(targets: str | tuple[str, ...], settings: Any) -> str:
    """The first of several settings that the model has."""
    if isinstance(targets, str):
        return targets
    from pointpeft.models import get_entry

    entry = get_entry(settings.model)
    parts = {"backbone": entry.config, "pretraining": entry.pretraining_config}
    for target in targets:
        part, _, name = target.partition(".")
        if getattr(parts[part], name, None) is not None:
            return target
    return targets[0]


def _value(name: str, value: str, override: str) -> str:
    words = _VALUES.get(name)
    if words is None:
        return value
    if value not in words:
        raise ConfigError(f"{override}: expected one of {', '.join(words)}")
    return words[value]


def _check_classes(override: str, value: str, settings: Any) -> None:
    """The head has as many outputs as the data has classes; nothing is to be set."""
    from pointpeft.data.benchmarks.stored import choose_dataset

    source = Path(settings.data.source).expanduser()
    dataset = choose_dataset(source, settings.data.variant) if source.is_dir() else None
    if dataset is not None and value != str(len(dataset.class_names)):
        raise ConfigError(
            f"{override}: {dataset.title} has {len(dataset.class_names)} classes, and the head as "
            "many outputs; leave the key out"
        )
