"""Options that verbs share; what each means is said by its help."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pointpeft.cli.console import tell

__all__ = [
    "Checkpoint",
    "ConfigFile",
    "Data",
    "Device",
    "Model",
    "Output",
    "Overrides",
    "Resume",
    "SavePublished",
    "Seed",
    "UpAxis",
    "Variant",
    "accelerator",
    "collect",
    "config_files",
    "listing_settings",
]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file that states what differs from defaults.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings with dotted keys: optimizer.lr=1e-3"),
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="'homeobjects', a folder <class>/<files>, or an .npz file."),
]
Model = Annotated[str | None, typer.Option("--model", help="A name of `pointpeft models`.")]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", help="Weights of the backbone: ours or published.")
]
Output = Annotated[Path, typer.Option("--output", help="Folder to write the run into.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --output.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Device = Annotated[
    str | None, typer.Option("--device", help="'cpu', 'cuda' or 'auto' (the default).")
]
SavePublished = Annotated[
    bool,
    typer.Option("--save-published-format", help="Also write a .pth as published repositories do."),
]
Variant = Annotated[
    str | None,
    typer.Option("--variant", help="Published data set, where --data holds several."),
]
UpAxis = Annotated[
    str | None, typer.Option("--up-axis", help="Axis of the files that points up: x, y or z.")
]


def collect(**values: Any) -> dict[str, Any]:
    """Options that were given, by dotted key; ``__`` in a name stands for a dot."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}


def config_files(output: Path, config: Path | None, resume: bool = False) -> list[Path]:
    """What settings are read from: the config of a run that goes on, then the file given."""
    own = output / "config.yaml"
    begun = [own] if resume and own.is_file() else []
    return [*begun, config] if config else begun


def accelerator(device: str | None) -> str | None:
    """The trainer's name for ``--device``."""
    return {"cuda": "gpu"}.get(device or "", device)


def listing_settings(kind: str) -> type[TyperCommand]:
    """A command whose help ends with every key that a setting may have.

    Args:
        kind: name of the config class, one of :mod:`pointpeft.tasks.config`.
    """

    class Command(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            from pointpeft.tasks import config
            from pointpeft.tasks.config_files import setting_names

            super().format_help(ctx, formatter)
            tell(f"Keys of settings: {', '.join(setting_names(getattr(config, kind)))}")

    return Command
