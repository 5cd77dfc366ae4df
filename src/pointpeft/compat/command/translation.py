"""What the published flags, and the published protocol itself, mean as settings of ours."""

import argparse
import os
from pathlib import Path
from typing import Any

from pointpeft.compat.command.flags import Command
from pointpeft.compat.voting_rules import published_votes
from pointpeft.errors import ConfigError
from pointpeft.training.config import TrainerConfig

__all__ = ["flag_settings", "has_scales", "protocol_settings", "saves_published", "tests_a_run"]


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
