"""The verb that turns published checkpoints into files of ours."""

from pathlib import Path
from typing import Annotated

import typer

from pointpeft.cli.console import tell
from pointpeft.locations import existing_weights

__all__ = ["convert"]


def convert(
    source: Annotated[Path, typer.Argument(help="Published .pth file.")],
    target: Annotated[
        Path, typer.Argument(help=".safetensors file to write; for a tuned model, a folder.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Name of `pointpeft models`, if files look alike.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Group sizes that a file does not show: scanobjectnn, ..."),
    ] = None,
    bank: Annotated[
        Path | None, typer.Option("--bank", help="Published memory bank of a tuned model.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option("--encoder", help="Checkpoint that a tuned model began with.")
    ] = None,
) -> None:
    """Write a published checkpoint as safetensors, or as an adapter with its encoder."""
    existing_weights(source)
    from pointpeft.peft import convert as convert_checkpoint  # slow

    report = convert_checkpoint(source, target, model, preset, bank, encoder)
    tell(str(report))
    tell(f"wrote {target}")
