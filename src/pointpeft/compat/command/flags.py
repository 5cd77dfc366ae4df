"""The flags of the published command line, what they select, and which exclude each other."""

import argparse
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pointpeft.compat.command.keys import list_keys
from pointpeft.errors import ConfigError

__all__ = ["Command", "command_of", "make_parser", "parse"]

_DESCRIPTION = """\
Pre-train, fine-tune and test point-cloud transformers by the published commands.

A config and one of the flags of "What to run" select the experiment; without such a flag the config
is pre-trained. The PUBLISHED protocol is followed, in which models are selected on the test split.
`pointpeft` is the command line of the same code that is honest by default."""
_EPILOG = """\
examples:
  python main.py --config cfgs/pre-training/i2p-mae.yaml --exp_name pre-train
  python main.py --config cfgs/linear-svm/modelnet40.yaml --test_svm modelnet40 --ckpts FILE
  python main.py --config cfgs/fine-tuning/scan_pb.yaml --finetune_model --ckpts FILE
  python main.py --config cfgs/peft/point-mae_scan_pb_aug.yaml --cache_prompt --ckpts FILE
  python main.py --config cfgs/few-shot/point-mae.yaml --finetune_model --way 5 --shot 10 --fold 0

A run goes to experiments/<config>/<folder of the config>/<exp_name>. --debug shows the full
traceback of an error.
"""


class Command(StrEnum):
    """What a call of the published command line does."""

    PRETRAIN = "pre-training"
    FINETUNE = "fine-tuning"
    TEST = "test"
    SVM = "linear SVM"

    @property
    def trains(self) -> bool:
        """Whether it trains, or else measures."""
        return self in (Command.PRETRAIN, Command.FINETUNE)


def make_parser() -> argparse.ArgumentParser:
    """The published flags, and settings behind them."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        usage="python main.py --config FILE [--exp_name NAME] [flags] [KEY=VALUE ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG + "".join(_paragraph(whose, keys) for whose, keys in list_keys().items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="settings, under published keys (max_epoch=1 total_bs=8) or ours (trainer.epochs=1)",
    )
    add = parser.add_argument_group("The run").add_argument
    add(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="a file below cfgs/, or the name that the published repository has for it",
    )
    add("--exp_name", default="default", metavar="NAME", help="name of the run [default]")
    add("--resume", action="store_true", help="go on with the run of this name")
    add(
        "--seed",
        type=int,
        metavar="N",
        help="of all that is random [the config's, mostly 0]",
    )
    add("--deterministic", action="store_true", help="only algorithms that give the same each time")
    add(
        "--save-published-format",
        dest="save-published-format",  # as it is spelled where flags are named
        action="store_true",
        help="insist on ckpt-best.pth and ckpt-last.pth, which are written wherever the published "
        "repositories have such a model; save_published=false leaves them out",
    )
    add("--num_workers", type=int, metavar="N", help="processes that load data")
    _add_selection(parser)
    _add_settings(parser)
    return parser


def _paragraph(whose: str, keys: Sequence[str]) -> str:
    text = textwrap.fill(", ".join(keys), 78, break_on_hyphens=False)
    return f"\nkeys, {whose}:\n{textwrap.indent(text, '  ')}\n"


def _add_selection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("What to run").add_argument
    add("--finetune_model", action="store_true", help="fine-tune the weights of --ckpts")
    add("--scratch_model", action="store_true", help="train the same model from random weights")
    add("--cache_prompt", action="store_true", help="fine-tune by Point-PEFT, with a memory bank")
    add("--test", action="store_true", help="measure the fine-tuned model of --ckpts")
    add(
        "--test_svm",
        choices=("modelnet40", "scan"),
        help="fit a linear SVM on features of the weights of --ckpts",
    )
    add = parser.add_argument_group("Weights").add_argument
    add(
        "--ckpts",
        metavar="PATH",
        help="published .pth or our own file to start from; for --test also the folder of a run",
    )
    add("--start_ckpts", metavar="PATH", help="weights that pre-training starts from")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("Measuring").add_argument
    add("--vote", action="store_true", help="measure by voting too: the best of many votes")
    add("--val_freq", type=int, metavar="N", help="epochs between measurements in pre-training")
    add = parser.add_argument_group("Few-shot").add_argument
    add("--way", type=int, metavar="N", help="classes of an episode")
    add("--shot", type=int, metavar="N", help="training shapes of a class")
    add("--fold", type=int, default=-1, metavar="N", help="one episode only; -1: all ten [-1]")
    add = parser.add_argument_group(
        "Point-PEFT",
        "For --cache_prompt, and --test of a published file, on Point-M2AE alone, as published.",
    ).add_argument
    add("--propagate_cof", type=float, metavar="X", help="weight of what tokens receive")
    add("--center_cof", type=float, metavar="X", help="weight of the center of a local group")
    add("--ad_cof", type=float, metavar="X", help="ignored: that weight is learned there")
    add(
        "--if_maxmean",
        action="store_const",
        const="mean+max",
        help="pool local groups by their mean as well",
    )
    add = parser.add_argument_group("Several processes, started by torchrun").add_argument
    add("--launcher", choices=("none", "pytorch"), default="none", help="[none]")
    add("--sync_bn", action="store_true", help="BatchNorm statistics over all processes")
    add("--local_rank", "--local-rank", type=int, metavar="N", help="ignored, as torchrun says it")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags as given, checked for what excludes each other.

    Raises:
        ConfigError: two flags exclude each other, or one lacks another.
    """
    flags = make_parser().parse_intermixed_args(arguments)
    for is_wrong, why in _conflicts(flags, command_of(flags)):
        if is_wrong:
            raise ConfigError(why)
    return flags


def command_of(flags: argparse.Namespace) -> Command:
    """What the flags select.

    Raises:
        ConfigError: they select more than one thing.
    """
    tunes = flags.finetune_model or flags.scratch_model or flags.cache_prompt
    asked = {Command.SVM: flags.test_svm, Command.TEST: flags.test, Command.FINETUNE: tunes}
    given = [command for command in asked if asked[command]]
    if len(given) > 1:
        raise ConfigError(f"the flags ask for {' and '.join(given)}; one call does one of them")
    return given[0] if given else Command.PRETRAIN


def _conflicts(flags: argparse.Namespace, command: Command) -> list[tuple[bool, str]]:
    pretrains, tunes = command is Command.PRETRAIN, command is Command.FINETUNE
    begins, weights = flags.start_ckpts is not None, flags.ckpts is not None
    episodes = flags.way is not None or flags.fold >= 0
    return [
        (flags.resume and begins, "--resume and --start_ckpts exclude each other"),
        (flags.resume and not command.trains, f"--resume: there is nothing to resume in {command}"),
        (begins and not pretrains, f"--start_ckpts: {command} starts from --ckpts"),
        (weights and pretrains, "--ckpts: pre-training starts from --start_ckpts"),
        (not command.trains and not weights, f"{command} needs --ckpts: what to measure"),
        (
            flags.scratch_model and flags.finetune_model,
            "--scratch_model and --finetune_model exclude each other",
        ),
        (flags.scratch_model and weights, "--scratch_model excludes --ckpts"),
        ((flags.way is None) != (flags.shot is None), "--way and --shot go together"),
        (
            episodes and not tunes,
            "--way, --shot and --fold belong to --finetune_model or --cache_prompt",
        ),
        (
            bool(flags.if_maxmean) and not (flags.cache_prompt or flags.test),
            "--if_maxmean belongs to --cache_prompt or --test",
        ),
        (
            flags.vote and (pretrains or command is Command.SVM),
            "--vote belongs to --finetune_model, --scratch_model or --test",
        ),
    ]
