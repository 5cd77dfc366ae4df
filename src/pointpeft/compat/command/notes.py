"""What published flags and keys do not mean for what is run: it is said, not passed over."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from pointpeft.compat.command.flags import Command, make_parser
from pointpeft.compat.command.translation import has_scales, tests_a_run
from pointpeft.compat.names import extra_epochs

__all__ = ["ineffective", "longer_training"]

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
