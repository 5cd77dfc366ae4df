"""What the published flags and protocol mean as settings of ours, and which mean nothing."""

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pointpeft.compat.command.flags import Command, make_parser
from pointpeft.compat.names import extra_epochs, published_votes
from pointpeft.errors import ConfigError
from pointpeft.training.config import TrainerConfig

__all__ = [
    "flag_settings",
    "has_scales",
    "ineffective",
    "longer_training",
    "protocol_settings",
    "saves_published",
    "tests_a_run",
]


def protocol_settings(command: Command, flags: argparse.Namespace, stated: Any) -> list[str]:
    """Overrides for what a published command means beside its config.

    Args:
        command: what is run.
        flags: as given.
        stated: the config as its file states it.
    """
    if command in (Command.SVM, Command.TEST):
        return ["protocol=published"]
    # A published config states the length of its cosine beside max_epoch, which may be changed.
    epochs = stated.optimizer.cosine_epochs or stated.trainer.epochs
    overrides = ["protocol=published", f"optimizer.cosine_epochs={epochs}"]
    return [*overrides, "method=point-peft"] if flags.cache_prompt else overrides


def flag_settings(command: Command, flags: argparse.Namespace, stated: Any) -> list[str]:
    """Overrides that the flags stand for.

    Raises:
        ConfigError: a flag asks for what cannot be had.
    """
    given: dict[str, Any] = {"seed": flags.seed}
    if command in (Command.PRETRAIN, Command.FINETUNE):
        given["trainer.num_workers"] = flags.num_workers
        given["save_published"] = flags.save_published or None
        given["trainer.deterministic"] = flags.deterministic or None
        given |= _processes(flags)
    if command is Command.PRETRAIN:
        measured = "svm.every" if stated.validate_every is None else "validate_every"
        given[measured] = flags.val_freq
    if command is Command.FINETUNE:
        given["few_shot.way"], given["few_shot.shot"] = flags.way, flags.shot
        given["few_shot.fold"] = flags.fold if flags.fold >= 0 else None
    if command is Command.FINETUNE or (command is Command.TEST and not tests_a_run(flags)):
        given |= _point_peft(flags, stated.model)
    if flags.vote:
        given["votes"] = published_votes(stated.model).repetitions
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def saves_published(command: Command, settings: Any) -> bool:
    """Whether a run writes files of the published repositories, as their own programs do.

    There is no such file of Point-PEFT on Point-BERT, nor of what this library corrects in it.

    Args:
        command: what is run.
        settings: the resolved config.
    """
    if command is not Command.FINETUNE:
        return command is Command.PRETRAIN
    if settings.method != "point-peft":
        return settings.method in ("full", "linear")
    compat = settings.peft.get("reference_compat", settings.protocol == "published")
    return bool(compat) and not settings.model.startswith("point_bert")


def tests_a_run(flags: argparse.Namespace) -> bool:
    """Whether the weights are those of a run of ours, which has its own settings."""
    return Path(flags.ckpts).is_dir()


def _processes(flags: argparse.Namespace) -> dict[str, Any]:
    """Devices and nodes as torchrun has divided the work."""
    given: dict[str, Any] = {"trainer.sync_batchnorm": flags.sync_bn or None}
    if flags.launcher == "none":
        return given
    try:
        processes = int(os.environ["WORLD_SIZE"])
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "--launcher pytorch needs the environment of torchrun: start by `torchrun "
            "--nproc_per_node=2 main.py ...`"
        ) from error
    return {
        **given,
        "trainer.devices": per_node,
        "trainer.num_nodes": processes // per_node,
        "trainer.strategy": TrainerConfig.strategy if processes == 1 else "ddp",
    }


def _point_peft(flags: argparse.Namespace, model: str) -> dict[str, Any]:
    given = {
        "peft.propagation_coefficient": flags.propagate_cof,
        "peft.center_coefficient": flags.center_cof,
        "peft.group_pooling": "mean+max" if flags.if_maxmean else None,
    }
    asked = any(value is not None for value in given.values())  # else no model is imported
    return given if asked and has_scales(model) else {}


def has_scales(model: str) -> bool:
    """Whether a backbone has several scales: published code reads coefficients there alone."""
    from pointpeft.models import get_entry

    return hasattr(get_entry(model).config, "group_sizes")


_TRAINING = (Command.PRETRAIN, Command.FINETUNE)
_BELONGS: Mapping[str, tuple[Command, ...]] = {
    "num_workers": _TRAINING,
    "deterministic": _TRAINING,
    "save_published": _TRAINING,
    "launcher": _TRAINING,
    "sync_bn": _TRAINING,
    "val_freq": (Command.PRETRAIN,),
    "propagate_cof": (Command.FINETUNE, Command.TEST),
    "center_cof": (Command.FINETUNE, Command.TEST),
    "if_maxmean": (Command.FINETUNE, Command.TEST),
    "ad_cof": (Command.FINETUNE,),
}
"""Flags that some commands alone heed, and these; flags that exclude each other are refused."""
_COEFFICIENTS = ("propagate_cof", "center_cof", "ad_cof", "if_maxmean")
"""Of Point-PEFT: published code reads them on backbones of several scales, but for the weight that
is learned there; the test of a run has its own."""
_SPELLED = {"save_published": "--save-published-format"}
"""Flags that are not spelled as their values are called."""
_MEASURED = ("data.source", "data.variant", "votes", "protocol", "seed", "trainer.batch_size")
_MODEL = ("task", "model", "preset", "data.num_points", "data.normalize", "data.seed",
          "data.val_fraction")  # fmt: skip
"""Keys that a test heeds: of any model, and of a published file, which does not know itself."""


def ineffective(
    command: Command, flags: argparse.Namespace, settings: Any, overrides: Iterable[str]
) -> list[str]:
    """A line with the flags and keys that mean nothing for what is run, if there are some.

    Args:
        command: what is run.
        flags: as given.
        settings: the resolved config.
        overrides: ``key=value`` with our dotted keys.
    """
    parser = make_parser()
    given = [name for name in _BELONGS if getattr(flags, name) != parser.get_default(name)]
    names = [name for name in given if not _has_effect(name, command, flags, settings)]
    found = [_SPELLED.get(name, f"--{name}") for name in names]
    if command is Command.TEST:
        own = tests_a_run(flags)
        heeded = _MEASURED if own else (*_MEASURED, *_MODEL)
        free = () if own else ("backbone.", "peft.")
        found += [
            override
            for override in overrides
            if (key := override.partition("=")[0]) not in heeded and not key.startswith(free)
        ]
    return [f"without effect on {command}: {', '.join(found)}"] if found else []


def _has_effect(name: str, command: Command, flags: argparse.Namespace, settings: Any) -> bool:
    if command not in _BELONGS[name]:
        return False
    if name == "val_freq":  # it needs something to measure
        return bool(settings.svm.source or settings.validate_every)
    if name not in _COEFFICIENTS:
        return True
    of_a_run = command is Command.TEST and tests_a_run(flags)
    return not of_a_run and has_scales(settings.model) and name != "ad_cof"


def longer_training(command: Command, settings: Any) -> list[str]:
    """A sentence about the epoch that published loops run beyond their number, where they do.

    Args:
        command: what is run.
        settings: the resolved config.
    """
    if command not in _TRAINING or not extra_epochs(settings):
        return []
    epochs = settings.trainer.epochs + extra_epochs(settings)
    return [f"published loops run one epoch more than max_epoch: {epochs} here"]
