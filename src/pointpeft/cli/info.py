"""The verb models: what backbones there are."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli.console import show_table

__all__ = ["models"]


def models(
    name: Annotated[str | None, typer.Argument(help="Show one model in full.")] = None,
) -> None:
    """List the backbones, or show one with its paper, settings and published results."""
    from dataclasses import asdict

    from pointpeft.create import has_embedded_weights
    from pointpeft.models import get_entry, list_models

    if name is None:
        table = Table("model", "what it is", "presets", "weights shipped")
        for each in list_models():
            entry = get_entry(each)
            shipped = "yes" if has_embedded_weights(each) else "no"
            table.add_row(each, entry.summary, ", ".join(entry.presets) or "-", shipped)
        show_table(table)
        return
    entry = get_entry(name)
    table = Table(name, "", show_header=True)
    table.add_row("summary", entry.summary)
    table.add_row("paper", entry.paper)
    table.add_row("licence", entry.licence)
    up = f"{entry.up_axis} up"
    table.add_row("input", f"{entry.num_points} points, normalize={entry.normalize}, {up}")
    for key, value in asdict(entry.config).items():
        table.add_row(f"backbone.{key}", str(value))
    for preset, sizes in entry.presets.items():
        settings = ", ".join(f"{k}={v}" for k, v in sizes.overrides.items())
        given = f"{sizes.num_points} points, normalize={sizes.normalize}, {up}; {settings}"
        table.add_row(f"preset {preset}", given)
    for dataset, accuracy in entry.reported.items():
        table.add_row(f"reported, {dataset}", f"{accuracy:.2f} %")
    if entry.configs:
        table.add_row("configs", escape(", ".join(f"cfgs/{each}" for each in entry.configs)))
    show_table(table)
