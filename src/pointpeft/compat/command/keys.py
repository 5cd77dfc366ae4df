"""Settings under their published names, translated into ours."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pointpeft.compat.command.values import MEANINGS, SCALES, Given, parsed
from pointpeft.errors import ConfigError
from pointpeft.training.config import FinetuneConfig, PretrainConfig, SvmConfig, VerbConfig
from pointpeft.training.config_files import setting_names

__all__ = ["PUBLISHED_KEYS", "Translation", "list_keys", "translate"]

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
    **{
        f"dataset.{part}.others.{name}": "data.num_points"
        for part in ("train", "val", "test")
        for name in ("npoints", "num_points")
    },
    **{
        f"dataset.svm.{part}.others.num_points": "svm.num_points"
        for part in ("train", "val", "test")
    },
    **{f"dataset.train.others.{name}": f"few_shot.{name}" for name in ("way", "shot", "fold")},
    "dataset.train.others.whole": "data.train_split",
    # encoder
    **{
        f"model.{name}": f"backbone.{name}"
        for name in ("group_size", "group_sizes", "depth", "depths", "local_radius")
    },
    "model.num_group": "backbone.num_groups",
    "model.num_groups": "backbone.num_groups",
    "model.trans_dim": "backbone.dim",
    "model.encoder_depths": "backbone.depths",
    "model.drop_path_rate": "backbone.drop_path",
    "model.masking_radius": "backbone.local_radius",  # so Point-PEFT's config calls them
    # objective
    **{
        f"model.{name}": f"pretraining.{name}"
        for name in ("loss", "mask_ratio", "mask_type", "decoder_depth", "decoder_depths",
                     "decoder_num_heads", "moco_loss")
    },
    "model.smooth": "label_smoothing",
    "model.clip_config.visual_encoder": "pretraining.teacher",
    "model.adapter_config.adapter_dim": "peft.adapter_dim",  # one width, or one per scale
    # PCP-MAE
    "model.pred_loss": "pretraining.center_loss",
    "model.ita": "pretraining.centers",
    "model.add_detach": "pretraining.detach_centers",
    "model.pred_pos_transformer_layer": "pretraining.center_depth",
    # Point-BERT and its tokenizer
    "model.replace_pob": "pretraining.replace_probability",
    "model.mask_rand": "pretraining.random_mask",
    "model.dvae_loss": "pretraining.token_loss",
    "model.cutmix_loss": "pretraining.mix_loss",
    "model.return_all_tokens": "pretraining.all_tokens",
    "model.T": "pretraining.temperature",
    "model.K": "pretraining.queue_size",
    "model.m": "pretraining.momentum",
    "model.num_tokens": ("pretraining.num_tokens", "backbone.num_tokens"),
    "model.tokens_dims": ("pretraining.token_dim", "backbone.token_dim"),
    "model.decoder_dims": ("pretraining.decoder_dim", "backbone.decoder_dim"),
}  # fmt: skip
"""Published key -> ours; of several, the first that the model has. ``model.transformer_config.x``
and ``model.dvae_config.x`` are read as ``model.x``."""

_NESTED = ("model.transformer_config.", "model.dvae_config.")
_WORDS: Mapping[str, Mapping[str, str]] = {
    "model.loss": {"cdl1": "l1", "cdl2": "l2"},
    "model.pred_loss": {"l1": "l1", "l2": "l2", "sml1": "smooth_l1", "cos": "cosine"},
    "model.mask_type": {"rand": "random", "block": "block"},
    "dataset.train.others.whole": {"True": "whole", "False": "train"},
}
"""Published values of some keys, and ours."""
_FREE = ("backbone.", "peft.", "pretraining.")  # whose keys are checked with the model


@dataclass(frozen=True)
class Translation:
    """Overrides in our words.

    Attributes:
        overrides: ``key=value`` with our dotted keys.
        ignored: what was given under published keys that mean nothing for the command.
        typed: what was given under a published key, by the override that it has become.
    """

    overrides: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)


def translate(overrides: Sequence[str], settings: VerbConfig) -> Translation:
    """Take overrides under published names or ours to ours.

    Args:
        overrides: for instance ``["max_epoch=1", "optimizer.lr=1e-3"]``.
        settings: a config of the command that they are for; its model decides which of several
            settings a key means.

    Raises:
        ConfigError: no ``key=value``, a key of neither vocabulary (the nearest of each is named),
            or a value that cannot be had.
    """
    known = setting_names(type(settings))
    free = tuple(key for key in _FREE if key.removesuffix(".") in known)
    for override in overrides:  # all of them, before models are imported for one
        _check_key(override, known)
    beside = {_plain(key): parsed(value) for key, _, value in (o.partition("=") for o in overrides)}
    found = Translation()
    for override in overrides:
        name = _plain(override.partition("=")[0])
        if name not in PUBLISHED_KEYS and name not in MEANINGS:
            found.overrides.append(override)
            continue
        meaning = _meaning(Given(override, name, beside[name], settings, beside))
        targets = [ours.partition("=")[0] for ours in meaning or ()]
        if meaning is not None and all(t in known or t.startswith(free) for t in targets):
            found.overrides.extend(meaning)
            found.typed.update(dict.fromkeys(targets, override))
        else:
            found.ignored.append(override)
    return found


def _meaning(given: Given) -> Sequence[str] | None:
    """Overrides in our words; None: it has no effect."""
    if given.name in MEANINGS:
        return MEANINGS[given.name](given)
    if given.name in SCALES and given.has_scales:
        return SCALES[given.name](given)
    value = given.override.partition("=")[2]
    if words := _WORDS.get(given.name):
        if str(given.value) not in words:
            raise given.refused(f"expected one of {', '.join(words)}")
        value = words[str(given.value)]
    return [f"{_choose(PUBLISHED_KEYS[given.name], given)}={value}"]


def _choose(targets: str | tuple[str, ...], given: Given) -> str:
    """The first of several settings that the model has."""
    if isinstance(targets, str):
        return targets
    parts = {"backbone": given.entry.config, "pretraining": given.entry.pretraining_config}
    for target in targets:
        part, _, name = target.partition(".")
        if getattr(parts[part], name, None) is not None:
            return target
    return targets[0]


def list_keys() -> dict[str, list[str]]:
    """Every key by whose it is: "published" or "ours"."""
    kinds = (FinetuneConfig, PretrainConfig, SvmConfig)
    ours = dict.fromkeys(name for kind in kinds for name in setting_names(kind))
    return {"published": [*PUBLISHED_KEYS, *MEANINGS], "ours": list(ours)}


def _check_key(override: str, known: Sequence[str]) -> None:
    """Refuse what is no ``key=value``, or has a key of neither vocabulary."""
    key, equals, _ = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is no override: write key=value, as in max_epoch=1")
    published = [*PUBLISHED_KEYS, *MEANINGS]
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
