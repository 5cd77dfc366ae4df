"""The verb that turns published checkpoints into files of ours."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from pointpeft.cli.console import tell
from pointpeft.locations import existing_weights
from pointpeft.tasks.config_files import load_config

__all__ = ["convert"]


@dataclass
class _Untraced:
    """Settings that a file may not show."""

    backbone: dict[str, Any] = field(default_factory=dict)
    peft: dict[str, Any] = field(default_factory=dict)


def convert(
    source: Annotated[Path, typer.Argument(help="Published .pth file.")],
    target: Annotated[
        Path, typer.Argument(help=".safetensors file to write; for a tuned model, a folder.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="What the file does not show: backbone.num_heads=3, peft.group_pooling=mean+max.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Name of `pointpeft models`, if files look alike.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Group sizes that a file does not show: scanobjectnn, ..."),
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank",
            help="Published memory bank of a tuned model, if not beside the file; 'none' for none.",
        ),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            "--encoder", help="Checkpoint that a tuned model began with, if not beside the file."
        ),
    ] = None,
) -> None:
    """Write a published checkpoint as safetensors, or as an adapter with its encoder."""
    existing_weights(source)
    for file in (encoder, None if str(bank) == "none" else bank):
        if file is not None:
            existing_weights(file)
    given = load_config(_Untraced, overrides=settings or [])
    from pointpeft.peft import convert as convert_checkpoint  # slow

    report = convert_checkpoint(
        source, target, model, preset, bank, encoder, given.backbone, given.peft
    )
    tell(str(report))
    tell(f"wrote {target if target.exists() else target.with_suffix('')}")
