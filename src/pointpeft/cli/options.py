"""Options that verbs share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Checkpoint",
    "ConfigFile",
    "Data",
    "Device",
    "Model",
    "Output",
    "Overrides",
    "Resume",
    "Seed",
    "UpAxis",
    "collect",
    "trainer_options",
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
UpAxis = Annotated[
    str | None, typer.Option("--up-axis", help="Axis of the files that points up: x, y or z.")
]


def collect(**values: object) -> list[str]:
    """Options that were given, as overrides; ``__`` in a name stands for a dot."""
    return [
        f"{key.replace('__', '.')}={value}" for key, value in values.items() if value is not None
    ]


def trainer_options(device: str | None) -> dict[str, object]:
    """The override for ``--device``."""
    names = {"cuda": "gpu"}
    return {"trainer__accelerator": names.get(device, device) if device else None}
