"""Assembly of the command line, and what an error looks like there."""

import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pointpeft import __version__
from pointpeft.cli import (
    adapt,
    compare,
    data,
    exporting,
    options,
    predicting,
    pretrain,
    search,
    serving,
    visualize,
)
from pointpeft.cli.console import tell, warn
from pointpeft.compat.command import verbs
from pointpeft.errors import PointPeftError

__all__ = ["app", "guarded", "main"]

app = typer.Typer(
    name="pointpeft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="--debug with any command shows the full traceback of an error.",
)
"""The verbs as Typer knows them; :func:`main` runs them."""

_OF_ADAPTER = {
    "checkpoint": "found where the adapter says, or by its hash",
    "up_axis": "as in training",
    "seed": "0",
    "method": "one that comes with the package",
    "batch_size": "as in the adapter's run",
}
"""What is done with an adapter where an option is not given."""
_OF_FEATURES = {
    "checkpoint": "embedded weights; of an adapter, where it says that they are",
    "method": "one that comes with the package",
}
"""What is done with features where an option is not given."""
_READERS = "the cores, up to 8; below 256 files or 4 cores 0"
_OF_FILE = {
    "model": "the one that the file shows",
    "preset": "none",
    "bank": "the one beside the file",
    "encoder": "the one beside the file",
    "classes": "those of --preset",
}
"""What is done with a released file where an option is not given."""
_OF_GRID = {
    "method": "svm (not of parts), linear, point-peft",
    "shots": "all",
    "lr_factor": "0.33, 1, 3",
}
"""What is compared where an option is not given."""
_OF_VIEW = (
    "model", "preset", "checkpoint", "backbone", "pretraining", "data.source", "data.num_points",
    "data.normalize", "data.up_axis", "procedural", "protocol", "seed",
)  # fmt: skip
"""Settings of pre-training that change how a shape is seen."""

app.command(cls=options.verb("FinetuneConfig"))(adapt.finetune)
app.command(cls=options.verb(**_OF_ADAPTER, split="test, or all of a new set without parts"))(
    adapt.evaluate
)
app.command(
    cls=options.verb(
        **(_OF_ADAPTER | {"batch_size": "32"}),
        category="the only one the adapter knows",
        output="of classes none, of parts runs/predict",
        workers=_READERS,
        neighbors_from="none: shapes go by their hashes",
    )
)(predicting.predict)
app.command(
    cls=options.verb(
        **_OF_FEATURES,
        model="point_mae_small",
        adapter="none, the backbone is frozen",
        up_axis="y, or as in the adapter",
        workers=_READERS,
    )
)(search.embed)
app.command(
    cls=options.verb(
        **_OF_FEATURES,
        adapter="none, the backbone is frozen",
        up_axis="as in the index",
        html="no page",
    )
)(search.search)
app.command(
    cls=options.verb(
        **_OF_ADAPTER,
        folder="none may",
        token_file="none, for this machine only",
        neighbors_from="none: shapes go by their hashes",
    )
)(serving.serve)
app.command(
    cls=options.verb(
        checkpoint="found where the adapter says, or by its hash",
        model="the one that the file shows",
        method="one that comes with the package",
        runtime="none, for a page it is needed",
    )
)(exporting.export)
app.command(cls=options.verb("FinetuneConfig", **_OF_GRID))(compare.compare)
app.command(cls=options.verb("PretrainConfig", checkpoint="random weights"))(pretrain.pretrain)
app.command(
    cls=options.verb(
        "PretrainConfig",
        _OF_VIEW,
        checkpoint="random weights",
        output="runs/visualize/SHAPE.html, or report.html in the folder of the run",
    )
)(visualize.visualize)
app.command(cls=options.verb("SvmConfig", features="none"))(pretrain.svm)
app.command(cls=options.verb())(pretrain.demo)
app.command(cls=options.verb(**_OF_FILE))(verbs.convert)
app.command(cls=options.verb(only="all", configs="those of the package"))(verbs.reproduce)
app.command()(pretrain.models)
app.add_typer(data.app, name="data")


_HELP = {
    "FinetuneConfig": "pointpeft finetune --help",
    "PretrainConfig": "pointpeft pretrain --help",
    "SvmConfig": "pointpeft svm --help",
}
"""Where the settings of a config class are listed."""


def _print_versions(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # torch itself stays unloaded

        tell(f"pointpeft {__version__}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def pointpeft(
    versions: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_versions, is_eager=True,
            help="Print the versions of pointpeft and torch.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Pre-train, adapt, evaluate and apply 3D point-cloud transformers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors end as :func:`guarded` says."""
    verbs = typer.main.get_command(app)
    guarded(lambda args: verbs(args=args, prog_name="pointpeft"), _flags(verbs) | _HELP, arguments)


def guarded(
    command: Callable[[list[str]], object],
    flags: Mapping[str, str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a command; errors end as one paragraph and a non-zero exit code.

    Args:
        command: is called with the arguments; ``--debug`` is not passed on but shows tracebacks.
        flags: names of the library's arguments, and the flags that give them here; names of config
            classes, and the command whose help lists their settings. Messages of the library name
            such things as `output`; what is shown names the flag.
        arguments: by default those of this process.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    _escape_what_cannot_be_printed()
    _log_to_stderr()
    try:
        command(args)
    except Exception as error:
        if debug:
            raise
        text = re.sub(r"`(\w+)`", lambda name: flags.get(name[1], name[0]), _text(error))
        warn(text or type(error).__name__, label="error")
        if not isinstance(error, PointPeftError | OSError):
            warn("not a foreseen error; --debug shows where it happened", label="note")
        sys.exit(1)


def _text(error: Exception) -> str:
    """What an error says; of the operating system's, the file before the reason."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _escape_what_cannot_be_printed() -> None:
    """A name that the terminal has no letters for is shown as ``\\u6905``; it ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flags(verbs: Any) -> dict[str, str]:
    """The flags of all verbs by the names of what they give, which are those of the library."""
    found: dict[str, str] = {}
    for verb in verbs.commands.values():
        found |= _flags(verb) if isinstance(verb, TyperGroup) else {}
        found |= {p.name: p.opts[0] for p in verb.params if p.opts[0].startswith("--")}
    return found


class _Shown(logging.Handler):
    """Prints messages, information once: seeds and folds say the same of their data and weights."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno > logging.INFO or text not in self._said:
            self._said.add(text)
            print(text, file=sys.stderr)  # as it is now: a progress bar may stand in for it


def _log_to_stderr() -> None:
    """Messages of this package only: what libraries warn about is not for the user."""
    for module in ("lightning", "torch", "tensorboard"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")
    logging.basicConfig(format="%(message)s", handlers=[_Shown()])
