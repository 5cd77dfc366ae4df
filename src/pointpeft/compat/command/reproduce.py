"""The verb that runs the published tables again."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli import options
from pointpeft.cli.console import counted, show_table, speak, tell
from pointpeft.errors import DataError

__all__ = ["reproduce"]


def reproduce(
    overrides: options.Overrides = None,
    data: Annotated[Path, typer.Option("--data", help="Folder of the published data sets.")] = Path(
        "data"
    ),
    checkpoints: Annotated[
        Path, typer.Option("--checkpoints", help="Folder of pre-trained weights (.pth).")
    ] = Path("ckpts"),
    output: options.Output = Path("runs/reproduce"),
    configs: Annotated[
        Path | None,
        typer.Option("--configs", help="Folder of the configs, if not those of the package."),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Rows or tables that have this text in them.")
    ] = None,
) -> None:
    """Run the published tables: published and measured numbers side by side.

    What lacks data or weights is skipped and named; what was finished is not run again. It is an
    error if nothing at all can be measured.
    KEY=VALUE settings apply to every fine-tuning run.
    """
    from pointpeft.compat.reproduction import check_folders
    from pointpeft.compat.reproduction import reproduce as run
    from pointpeft.training.config_names import CONFIGS

    configs = configs or CONFIGS
    check_folders(data, checkpoints, configs)
    speak()

    def show(outcome: Any) -> None:
        got = outcome.missing if outcome.measured is None else f"{outcome.measured:.2f} %"
        tell(f"{outcome.experiment.table}, {outcome.experiment.row}: {got}")

    outcomes = run(data, checkpoints, output, configs, overrides or (), only, report=show)
    table = Table("table", "row", "published", "measured")
    for outcome in outcomes:
        e = outcome.experiment
        got = "-" if outcome.measured is None else f"{outcome.measured:.2f} %"
        table.add_row(escape(e.table), escape(e.row), f"{e.published:.2f} %", got)
    show_table(table)
    tell(f"table: {output / 'reproduction.md'}")
    skipped = sum(outcome.measured is None for outcome in outcomes)
    if skipped == len(outcomes):
        raise DataError(
            f"nothing was measured, of {counted(skipped, 'row')}; the reasons stand above"
        )
    if skipped:
        were = "was" if skipped == 1 else "were"
        tell(f"{skipped} of {len(outcomes)} rows {were} not measured; the reasons stand above")
