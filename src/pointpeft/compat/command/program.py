"""The published command line: its flags and keys, translated into calls of our verbs."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pointpeft.cli import adapt, pretrain
from pointpeft.cli.app import guarded
from pointpeft.cli.console import tell, warn
from pointpeft.compat.command.flags import Command, command_of, parse
from pointpeft.compat.command.keys import translate
from pointpeft.compat.command.translation import (
    flag_settings,
    protocol_settings,
    saves_published,
    tests_a_run,
    unheeded_keys,
)
from pointpeft.compat.names import extra_epochs
from pointpeft.errors import ConfigError, PointPeftError
from pointpeft.files import no_trace_if_refused
from pointpeft.locations import resolve_adapter
from pointpeft.training.config import VALIDATION_BATCH, FinetuneConfig, PretrainConfig, SvmConfig
from pointpeft.training.config_files import find_config, load_config

__all__ = ["PROTOCOL_NOTE", "main"]

PROTOCOL_NOTE = (
    "the PUBLISHED protocol is followed: models are selected on the test split that they are "
    "reported for; `pointpeft` is honest by default"
)
"""What a call says first, unless it is told ``protocol=honest``."""

EXPERIMENTS = Path("experiments")
"""Folder of all runs."""

_FLAGS = {
    "checkpoint": "--ckpts",
    "output": "--exp_name",
    "resume": "--resume",
    **dict.fromkeys(("FinetuneConfig", "PretrainConfig", "SvmConfig"), "python main.py --help"),
}
"""What messages of the library call them, and their flags here."""

_KINDS: dict[Command, Any] = {
    Command.PRETRAIN: PretrainConfig,
    Command.FINETUNE: FinetuneConfig,
    Command.TEST: FinetuneConfig,
    Command.SVM: SvmConfig,
}


@dataclass(frozen=True)
class Call:
    """A call of the published command line, translated.

    Attributes:
        command: what is run.
        flags: as given.
        settings: the resolved config.
        overrides: what the flags and keys mean, over the config file.
        config: that file; None where a run goes on, which has its own.
        output: where the run is.
    """

    command: Command
    flags: argparse.Namespace
    settings: Any
    overrides: list[str]
    config: Path | None
    output: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the published command line; errors end as one paragraph and a non-zero exit code."""
    try:
        guarded(_run, _FLAGS, arguments)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    flags = parse(arguments)
    command = command_of(flags)
    output = _output(flags, command)
    begun = output / "config.yaml"
    config = None
    if not (flags.resume and begun.is_file()):
        config = find_config(flags.config, tuned=flags.cache_prompt)
    stated = _load(command, config or begun)
    translated = translate(flags.overrides, stated)
    base = protocol_settings(command, flags, stated) if config else []
    try:
        settings = _load(command, config or begun, [*base, *translated.overrides])
        from_flags, ignored = flag_settings(command, flags, settings)
        if config and saves_published(command, settings):  # unless told otherwise
            base.append("save_published=true")
        overrides = [*base, *from_flags, *translated.overrides]
        settings = _load(command, config or begun, overrides)
        ignored += translated.ignored
        if command is Command.TEST:
            ignored += unheeded_keys(flags, translated.overrides)
        call = Call(command, flags, settings, overrides, config, output)
        _check_sources(call)
        _carry_out(call, _notes(command, settings, ignored))
    except PointPeftError as error:
        given = [typed for ours, typed in translated.typed.items() if ours in str(error)]
        if not given:
            raise
        raise type(error)(f"{error} (given: {', '.join(given)})") from error


def _notes(command: Command, settings: Any, ignored: list[str]) -> list[str]:
    """What is to be known of a run before it begins."""
    notes = [PROTOCOL_NOTE] if settings.protocol == "published" else []
    if command.trains and (more := extra_epochs(settings)):
        epochs = settings.trainer.epochs + more
        notes.append(f"published loops run one epoch more than max_epoch: {epochs} here")
    if ignored:
        notes.append(f"without effect on {command}: {', '.join(ignored)}")
    return notes


def _output(flags: argparse.Namespace, command: Command) -> Path:
    """``experiments/<config>/<folder of the config>/<exp_name>``."""
    name = f"test_{flags.exp_name}" if command is Command.TEST else flags.exp_name
    return EXPERIMENTS / flags.config.stem / flags.config.absolute().parent.name / name


def _load(command: Command, file: Path, overrides: Sequence[str] = ()) -> Any:
    try:
        return load_config(_KINDS[command], [file], overrides)
    except ConfigError as error:
        if command is Command.PRETRAIN and "unknown key" in str(error):
            raise ConfigError(
                f"{error}\nwithout --finetune_model, --scratch_model, --cache_prompt, --test or "
                "--test_svm the config must be one of pre-training"
            ) from error
        raise


def _check_sources(call: Call) -> None:
    """Refuse data and weights that are not there, before anything slow is imported."""
    from pointpeft.data.benchmarks.stored import get_dataset
    from pointpeft.training.sources import check_sources

    if call.command is Command.SVM and (variant := call.settings.data.variant) is not None:
        asked = {"modelnet40": "ModelNet40", "scan": "ScanObjectNN"}[call.flags.test_svm]
        if not get_dataset(variant).title.startswith(asked):
            raise ConfigError(
                f"--test_svm {call.flags.test_svm}: {call.flags.config} is for data.variant="
                f"{variant}; take the config of {asked} below cfgs/linear-svm/"
            )
    if call.flags.resume:
        return  # a run has what it began with
    weights = call.flags.ckpts or call.flags.start_ckpts or call.settings.checkpoint
    check_sources(replace(call.settings, checkpoint=weights))
    if call.command is Command.TEST and Path(weights).is_dir():
        resolve_adapter(weights)


def _carry_out(call: Call, notes: list[str]) -> None:
    from pointpeft.measure.records import append_log, output_folder
    from pointpeft.training.processes import is_first_process

    if not is_first_process():  # in which the first one may have begun the run by now
        if call.command.trains:  # measuring is not shared out
            _execute(call)
        return
    # Folds of few-shot episodes may be added one by one.
    if (call.output / "config.yaml").is_file() and not call.flags.resume and call.flags.fold < 0:
        raise ConfigError(
            f"{call.output} already holds a run: --resume goes on with it, another --exp_name "
            "begins another"
        )
    with no_trace_if_refused(call.output):
        for note in notes:
            tell(note)
        append_log(output_folder(call.output), notes)
        _execute(call)


def _execute(call: Call) -> None:
    flags, where = call.flags, dict[str, Any](output=call.output, config=call.config)
    match call.command:
        case Command.PRETRAIN:
            where |= {"checkpoint": flags.start_ckpts, "resume": flags.resume}
            pretrain.pretrain(call.overrides, **where)
        case Command.FINETUNE:
            checkpoint = flags.ckpts
            if call.config is not None and checkpoint is None:
                checkpoint = "random"
                if not flags.scratch_model:
                    warn("no --ckpts: training starts from random weights")
            adapt.finetune(call.overrides, checkpoint=checkpoint, resume=flags.resume, **where)
        case Command.SVM:
            pretrain.svm(call.overrides, checkpoint=flags.ckpts, **where)
        case Command.TEST:
            _test(call)


def _test(call: Call) -> None:
    adapter, settings = call.flags.ckpts, call.settings
    # As many clouds at a time as training validates with, or as many as the tested run did.
    clouds: int | None = VALIDATION_BATCH * int(settings.trainer.batch_size)
    if not tests_a_run(call.flags):
        from pointpeft.compat.adoption import adopt_checkpoint

        settings.checkpoint = adapter
        adopt_checkpoint(settings, call.output)
        adapter = call.output
    elif not any(override.startswith("trainer.batch_size=") for override in call.overrides):
        clouds = None
    adapt.evaluate(
        str(adapter), settings.data.source, call.output, split="test",
        variant=settings.data.variant, votes=settings.votes, protocol=settings.protocol,
        seed=settings.seed, batch_size=clouds,
    )  # fmt: skip
