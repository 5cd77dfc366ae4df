"""The verb that turns published checkpoints into files of ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pointpeft.cli.console import tell
from pointpeft.errors import DataError
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
    from pointpeft.peft import convert as convert_checkpoint  # slow

    names = _class_names(classes)
    report = convert_checkpoint(source, target, model, preset, bank, encoder, names)
    tell(str(report))
    tell(f"wrote {target}")


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
    from pointpeft.data.published.registry import get_dataset  # slow

    try:
        return get_dataset(given).class_names
    except DataError as error:
        raise DataError(f"`classes` {given}: there is no such file, and {error}") from error
