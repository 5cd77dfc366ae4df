"""What the published flags and protocol mean as settings of ours, and which mean nothing."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pointpeft.compat.command.flags import Command, make_parser
from pointpeft.compat.command.values import has_scales
from pointpeft.compat.names import published_votes
from pointpeft.errors import ConfigError
from pointpeft.training.config import TrainerConfig

__all__ = [
    "flag_settings",
    "protocol_settings",
    "saves_published",
    "tests_a_run",
    "unheeded_keys",
]


def protocol_settings(command: Command, flags: argparse.Namespace, stated: Any) -> list[str]:
    """Overrides for what a published command means beside its config.

    Args:
        command: what is run.
        flags: as given.
        stated: the config as its file states it.
    """
    if not command.trains:
        return ["protocol=published"]
    # A published config states the length of its cosine beside max_epoch, which may be changed.
    epochs = stated.optimizer.cosine_epochs or stated.trainer.epochs
    overrides = ["protocol=published", f"optimizer.cosine_epochs={epochs}"]
    return [*overrides, "method=point-peft"] if flags.cache_prompt else overrides


_TRAINING = {
    "num_workers": "trainer.num_workers",
    "deterministic": "trainer.deterministic",
    "save-published-format": "save_published",
    "sync_bn": "trainer.sync_batchnorm",
}
_FEW_SHOT = {"way": "few_shot.way", "shot": "few_shot.shot", "fold": "few_shot.fold"}
_COEFFICIENTS = {
    "propagate_cof": "peft.propagation_coefficient",
    "center_cof": "peft.center_coefficient",
    "if_maxmean": "peft.group_pooling",
}
"""Of Point-PEFT: published code reads them on backbones of several scales alone."""
_NEVER = ("ad_cof",)  # on one scale a constant, on several learned


def flag_settings(
    command: Command, flags: argparse.Namespace, settings: Any
) -> tuple[list[str], list[str]]:
    """Overrides that the flags stand for, and the flags that mean nothing for what is run.

    Args:
        command: what is run.
        flags: as given.
        settings: the config with all overrides beside the flags.

    Raises:
        ConfigError: a flag asks for what cannot be had.
    """
    all_flags = ("seed", "launcher", "val_freq", *_TRAINING, *_FEW_SHOT, *_COEFFICIENTS, *_NEVER)
    default = make_parser().get_default
    given = {name: value for name in all_flags if (value := vars(flags)[name]) != default(name)}
    keys, overrides = {"seed": "seed"}, list[str]()
    if command.trains:
        keys |= _TRAINING
        if given.pop("launcher", None):
            overrides += _processes()
    if command is Command.PRETRAIN and (settings.svm.source or settings.validate_every):
        keys["val_freq"] = "svm.every" if settings.validate_every is None else "validate_every"
    if command is Command.FINETUNE:
        keys |= _FEW_SHOT
    tuned = command is Command.FINETUNE or (command is Command.TEST and not tests_a_run(flags))
    if tuned and given.keys() & _COEFFICIENTS.keys() and has_scales(settings.model):
        keys |= _COEFFICIENTS
    overrides += [f"{keys[name]}={value}" for name, value in given.items() if name in keys]
    if flags.vote:
        overrides.append(f"votes={published_votes(settings.model).repetitions}")
    return overrides, [f"--{name}" for name in given if name not in keys]


def _processes() -> list[str]:
    """Devices and nodes as torchrun has divided the work."""
    try:
        processes = int(os.environ["WORLD_SIZE"])
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "--launcher pytorch needs the environment of torchrun: start by `torchrun "
            "--nproc_per_node=2 main.py ...`"
        ) from error
    return [
        f"trainer.devices={per_node}",
        f"trainer.num_nodes={processes // per_node}",
        f"trainer.strategy={TrainerConfig.strategy if processes == 1 else 'ddp'}",
    ]


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


_MEASURED = ("data.source", "data.variant", "votes", "protocol", "seed", "trainer.batch_size")
_MODEL = ("task", "model", "preset", "data.num_points", "data.normalize", "data.seed",
          "data.val_fraction")  # fmt: skip
"""Keys that a test heeds: of any model, and of a published file, which does not know itself."""


def unheeded_keys(flags: argparse.Namespace, overrides: Iterable[str]) -> list[str]:
    """Those of some overrides, with our dotted keys, that mean nothing for a test."""
    own = tests_a_run(flags)
    heeded, free = (_MEASURED, ()) if own else ((*_MEASURED, *_MODEL), ("backbone.", "peft."))
    return [
        override
        for override in overrides
        if (key := override.partition("=")[0]) not in heeded and not key.startswith(free)
    ]
