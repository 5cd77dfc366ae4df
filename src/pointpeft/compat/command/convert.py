"""The verb that turns published checkpoints into files of ours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from pointpeft.cli.console import tell
from pointpeft.errors import DataError
from pointpeft.locations import existing_weights
from pointpeft.training.config_files import load_config

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
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Class names of a tuned model: a text file, one a line, or a published data set "
            "such as modelnet40 or obj_bg.",
        ),
    ] = None,
) -> None:
    """Write a published checkpoint as safetensors, or as an adapter with its encoder."""
    existing_weights(source)
    for file in (encoder, None if str(bank) == "none" else bank):
        if file is not None:
            existing_weights(file)
    given = load_config(_Untraced, overrides=settings or [])
    from pointpeft.compat.checkpoints.converting import convert as convert_checkpoint  # slow

    report = convert_checkpoint(
        source, target, model, preset, bank, encoder, given.backbone, given.peft,
        _class_names(classes),
    )  # fmt: skip
    tell(str(report))
    tell(f"wrote {target if target.exists() else target.with_suffix('')}")


def _class_names(given: str | None) -> Sequence[str] | None:
    """The names that ``--classes`` means."""
    if given is None:
        return None
    if Path(given).is_file():
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"`classes` {given} is no text file in UTF-8: {error}") from error
        return [line.strip() for line in lines if line.strip()]
    from pointpeft.data.benchmarks.datasets import get_dataset  # slow

    try:
        return get_dataset(given).class_names
    except DataError as error:
        raise DataError(f"`classes` {given}: there is no such file, and {error}") from error
