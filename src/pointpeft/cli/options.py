"""Options that verbs share; what each means is said by its help."""

import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from pointpeft.cli.console import out, tell, warn
from pointpeft.locations import RUN_CONFIG
from pointpeft.training import config
from pointpeft.training.config import DataConfig
from pointpeft.training.config_files import load_config
from pointpeft.training.settings import Setting, list_settings

__all__ = [
    "Adapter",
    "Checkpoint",
    "ConfigFile",
    "Data",
    "Device",
    "Engine",
    "Epochs",
    "Method",
    "Model",
    "Output",
    "Overrides",
    "Resume",
    "SavePublished",
    "Seed",
    "ShardSize",
    "UpAxis",
    "Variant",
    "config_files",
    "know_method",
    "read_settings",
    "verb",
]

T = TypeVar("T")

Adapter = Annotated[
    str, typer.Option(help="Adapter or run folder, or its address on the hub, hf://owner/name.")
]
Task = Annotated[str | None, typer.Option(help="classification or part_segmentation.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.")]
ConfigFile = Annotated[
    Path | None, typer.Option(help="YAML file that states what differs from defaults.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings with dotted keys: optimizer.lr=1e-3"),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="'homeobjects', 'mechparts', 'mechparts-scan', a folder <class>/<files>, or an .npz "
        "file."
    ),
]
Model = Annotated[str | None, typer.Option(help="A name of `pointpeft models`.")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="Weights of the backbone: a file of ours or a released one, the folder of a "
        "pre-training run, their address on the hub, hf://owner/name, or 'embedded'."
    ),
]
Method = Annotated[
    str | None,
    typer.Option(help="Of an adapter by a method of your own: my_package.module:MyConfig."),
]
Output = Annotated[Path, typer.Option(help="Folder to write the run into.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --output.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Device = Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda or auto.")]
Engine = Annotated[str, typer.Option(help="Of a folder of shards: processes, or ray.")]
ShardSize = Annotated[
    int | None, typer.Option(help="Of a folder of shards: files of each of them.")
]
SavePublished = Annotated[
    bool,
    typer.Option(
        "--save-published-format", help="Also write a .pth as the papers' repositories do."
    ),
]
Variant = Annotated[str | None, typer.Option(help="Benchmark data set, where there are several.")]
UpAxis = Annotated[str | None, typer.Option(help="Axis of the files that points up: x, y or z.")]


_KEYS = {
    "data": "data.source",
    "variant": "data.variant",
    "up_axis": "data.up_axis",
    "epochs": "trainer.epochs",
    "device": "trainer.accelerator",
}
"""Settings that options give, where they are not called alike."""
_UNSAID = {
    "checkpoint": "embedded weights, if the model has some",
    "method": "point-peft; for parts full",
    "variant": "the only one there",
    "preset": "none",
    "C": "5-fold cross-validated on train",
    "device": "auto",
    "shard_size": "1,000",
    "config": "none",
}
"""What is done without an option, where the default of its setting does not say it."""


def config_files(output: Path, config: Path | None, resume: bool = False) -> list[Path]:
    """What settings are read from: the config of a run that goes on, then the file given."""
    own = output / RUN_CONFIG
    begun = [own] if resume and own.is_file() else []
    return [*begun, config] if config else begun


def read_settings(
    kind: type[T],
    overrides: list[str] | None,
    output: Path,
    config: Path | None,
    resume: bool = False,
    device: str | None = None,
    to_be_read: bool = False,
    **values: Any,
) -> T:
    """The settings of a run, refused if its data or weights are plainly not there.

    Args:
        kind: the config class.
        overrides: ``key=value``, over all others.
        output: of the run, which has a config where it goes on.
        config: a file.
        resume: whether it goes on.
        device: as given.
        to_be_read: whether neither data nor weights are needed.
        **values: further options; those that were not given are None or False.
    """
    from pointpeft.training.sources import check_sources

    values["device"] = "gpu" if device == "cuda" else device
    given = {_KEYS.get(k, k): v for k, v in values.items() if v is not None and v is not False}
    for key, _, value in (each.partition("=") for each in overrides or ()):
        if key in given and str(given[key]) != value:
            warn(f"{key}={value} wins over the option that says {given[key]}")
    settings: Any = load_config(kind, config_files(output, config, resume), overrides or [], given)
    know_method(getattr(settings, "method", None))
    if resume or to_be_read:
        return settings
    check_sources(settings)
    named = {*given, *(each.partition("=")[0] for each in overrides or ())}
    if settings.data.source == DataConfig.source and "data.source" not in named:
        tell(
            "no --data was given: the shapes that come with the package are used "
            f"({settings.data.source}); --data FOLDER takes your own"
        )
    return settings


def know_method(method: str | None) -> None:
    """Import a method of the user's own; its module may lie in the working directory.

    Raises:
        ConfigError: there is none of that name.
    """
    if method is None or ":" not in method:
        return
    from pointpeft.peft import find_method  # slow

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    find_method(method)


def verb(
    kind: str | None = None, only: tuple[str, ...] = (), /, **defaults: str
) -> type[TyperCommand]:
    """A command whose help says of every option what is done without it.

    With a config class it ends with a table of the settings.

    Args:
        kind: name of the config class, one of :mod:`pointpeft.training.config`; its defaults are
            those of the options.
        only: keys of the settings that the verb looks at, or the groups they are in; none: all.
        **defaults: what is done without an option of that name.
    """

    class Command(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            settings = list_settings(getattr(config, kind)) if kind else []
            said = {setting.key: setting.default for setting in settings} | _UNSAID | defaults
            for param in self.params:
                default = said.get(param.name or "", said.get(_KEYS.get(param.name or "", "")))
                if param.default is None and default is not None and not param.required:
                    param.default = default
            super().format_help(ctx, formatter)
            groups = tuple(f"{key}." for key in only) or ("",)
            shown = [each for each in settings if f"{each.key}.".startswith(groups)]
            if shown:
                out.print("Settings, as KEY=VALUE (null: not set):", _table(shown))

    return Command


def _table(settings: list[Setting]) -> Table:
    table = Table("key", "default", "meaning", box=SIMPLE)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for setting in settings:
        table.add_row(escape(setting.key), escape(setting.default), escape(setting.meaning))
    return table
