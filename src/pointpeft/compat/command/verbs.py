"""Verbs for published files and tables: convert checkpoints, run the tables again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli import options
from pointpeft.cli.console import show_table, speak, tell
from pointpeft.errors import DataError
from pointpeft.formats import counted
from pointpeft.locations import existing_weights
from pointpeft.training.config_files import load_config

if TYPE_CHECKING:
    from pointpeft.compat.reproduction import Outcome

__all__ = ["convert", "reproduce"]


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
        str | None, typer.Option(help="Name of `pointpeft models`, if files look alike.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Group sizes that a file does not show: scanobjectnn, ...")
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            help="Published memory bank of a tuned model, if not beside the file; 'none' for none."
        ),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="Checkpoint that a tuned model began with, if not beside the file."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names of a tuned model: a text file, one a line, or a published data set "
            "such as modelnet40 or obj_bg."
        ),
    ] = None,
) -> None:
    """Write a published checkpoint as safetensors, or as an adapter with its encoder."""
    existing_weights(source)
    for file in (encoder, None if str(bank) == "none" else bank):
        if file is not None:
            existing_weights(file)
    given = load_config(_Untraced, overrides=settings or [])
    from pointpeft.compat.checkpoints.checkpoint_converter import (
        convert as convert_checkpoint,  # slow
    )

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
    from pointpeft.data.benchmarks.stored import get_dataset

    try:
        return get_dataset(given).class_names
    except DataError as error:
        raise DataError(f"`classes` {given}: there is no such file, and {error}") from error


def reproduce(
    overrides: options.Overrides = None,
    data: Annotated[Path, typer.Option(help="Folder of the published data sets.")] = Path("data"),
    checkpoints: Annotated[Path, typer.Option(help="Folder of pre-trained weights (.pth).")] = Path(
        "ckpts"
    ),
    output: options.Output = Path("runs/reproduce"),
    configs: Annotated[
        Path | None, typer.Option(help="Folder of the configs, if not those of the package.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Rows or tables that have this text in them.")
    ] = None,
) -> None:
    """Run the published tables: published and measured numbers side by side.

    What lacks data or weights is skipped and named; what was finished is not run again. It is an
    error if nothing at all can be measured.
    KEY=VALUE settings apply to every fine-tuning run.
    """
    from pointpeft.compat.reproduction import check_folders
    from pointpeft.compat.reproduction import reproduce as run
    from pointpeft.training.config_files import CONFIGS

    configs = configs or CONFIGS
    check_folders(data, checkpoints, configs)
    speak()

    def show(outcome: "Outcome") -> None:
        tell(f"{outcome.experiment.table}, {outcome.experiment.row}: {outcome}")

    outcomes = run(data, checkpoints, output, configs, overrides or (), only, report=show)
    table = Table("table", "row", "published", "measured")
    for outcome in outcomes:
        e = outcome.experiment
        got = "-" if outcome.measured is None else str(outcome)
        table.add_row(escape(e.table), escape(e.row), f"{e.published:.2f} %", got)
    show_table(table)
    tell(f"table: {output / 'reproduction.md'}")
    skipped = sum(outcome.measured is None for outcome in outcomes)
    counts = f"{skipped} of {counted(len(outcomes), 'row')}; the reasons stand above"
    if skipped == len(outcomes):
        raise DataError(f"nothing was measured: {counts}")
    if skipped:
        tell(f"not measured: {counts}")
