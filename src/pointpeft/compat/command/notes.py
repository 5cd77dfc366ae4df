"""What published flags and keys do not mean for what is run: it is said, not passed over."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from pointpeft.compat.command.flags import Command, make_parser
from pointpeft.compat.command.translation import has_scales, tests_a_run
from pointpeft.compat.names import extra_epochs

__all__ = ["ineffective_flags", "ineffective_keys", "longer_training"]

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
    "ad_cof": (Command.FINETUNE,),
}
"""Flags that some commands alone heed, and these; flags that exclude each other are refused."""
_SPELLED = {"save_published": "--save-published-format"}
"""Flags that are not spelled as their values are called."""

_MEASURED = ("data.source", "data.variant", "votes", "protocol", "seed", "trainer.batch_size")
_MODEL = ("task", "model", "preset", "data.num_points", "data.normalize", "data.seed",
          "data.val_fraction")  # fmt: skip
"""Keys that a test heeds: of any model, and of a published file, which does not know itself."""


def ineffective_flags(command: Command, flags: argparse.Namespace, settings: Any) -> list[str]:
    """Sentences about flags that mean nothing for the command.

    Args:
        command: what is run.
        flags: as given.
        settings: the resolved config.
    """
    parser = make_parser()
    notes = [
        f"{_SPELLED.get(name, f'--{name}')} has no effect on {command}: it belongs to "
        f"{' and '.join(commands)}"
        for name, commands in _BELONGS.items()
        if command not in commands and getattr(flags, name) != parser.get_default(name)
    ]
    checked = command is not Command.PRETRAIN or settings.svm.source or settings.validate_every
    if flags.val_freq is not None and not checked:
        notes.append(
            "--val_freq has no effect: nothing is measured during this pre-training (svm.source)"
        )
    if command in (Command.FINETUNE, Command.TEST):
        of_a_run = command is Command.TEST and tests_a_run(flags)
        notes += _ineffective_coefficients(flags, settings.model, of_a_run)
    return notes


def _ineffective_coefficients(flags: argparse.Namespace, model: str, of_a_run: bool) -> list[str]:
    """Sentences about flags of Point-PEFT that published code does not read on a backbone."""
    names = ("propagate_cof", "center_cof", "ad_cof", "if_maxmean")
    given = [name for name in names if getattr(flags, name) not in (None, False)]
    if not given:
        return []  # without importing a model
    if of_a_run:
        return [f"--{name} has no effect on the test of a run, which has its own settings"
                for name in given]  # fmt: skip
    several = has_scales(model)
    where = "of several scales, where that weight is learned" if several else "of one scale"
    return [f"--{name} has no effect on a backbone {where}, as published" for name in given
            if name == "ad_cof" or not several]  # fmt: skip


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


def ineffective_keys(
    command: Command, flags: argparse.Namespace, overrides: Iterable[str]
) -> list[str]:
    """Sentences about settings that a test does not heed, since the tested model has its own.

    Args:
        command: what is run.
        flags: as given.
        overrides: ``key=value`` with our dotted keys.
    """
    if command is not Command.TEST:
        return []
    own = tests_a_run(flags)
    heeded = _MEASURED if own else (*_MEASURED, *_MODEL)
    what = "a run, which has its own settings" if own else "a published file"
    notes = []
    for override in overrides:
        key = override.partition("=")[0]
        if key not in heeded and (own or not key.startswith(("backbone.", "peft."))):
            notes.append(f"{override} has no effect on the test of {what}")
    return notes
