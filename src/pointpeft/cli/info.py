"""Verbs that show what there is: models, data."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli import options
from pointpeft.cli.console import reading, show_table, tell, warn

__all__ = ["data", "models"]


def models(
    name: Annotated[str | None, typer.Argument(help="Show one model in full.")] = None,
) -> None:
    """List the backbones, or show one with its paper, settings and published results."""
    from dataclasses import asdict

    from pointpeft.models import get_entry, list_models
    from pointpeft.models.factory import has_embedded_weights

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
    table.add_row("input", f"{entry.num_points} points in the unit ball, y up")
    for key, value in asdict(entry.config).items():
        table.add_row(f"backbone.{key}", str(value))
    for preset, sizes in entry.presets.items():
        settings = ", ".join(f"{k}={v}" for k, v in sizes.overrides.items())
        table.add_row(f"preset {preset}", f"{sizes.num_points} points {settings}")
    for dataset, accuracy in entry.published.items():
        table.add_row(f"published, {dataset}", f"{accuracy:.2f} %")
    show_table(table)


def data(
    source: Annotated[str, typer.Argument(help="As for finetune --data.")] = "homeobjects",
    up_axis: options.UpAxis = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the prepared clouds there, a folder per class."),
    ] = None,
) -> None:
    """Read a data set as training would, and show its classes, splits and unusable items."""
    from pointpeft.data import InputTransform, load_shapes
    from pointpeft.data.export import export_folder

    transform = InputTransform(up_axis=up_axis or "y")  # type: ignore[arg-type]
    with reading() as progress:
        shapes = load_shapes(source, transform, progress=progress)
    table = Table("class", "train", "val", "test")
    parts = (shapes.train, shapes.val, shapes.test)
    for label, name in enumerate(shapes.class_names):
        table.add_row(escape(name), *(str(int((part.labels == label).sum())) for part in parts))
    table.add_section()
    table.add_row("all", *(str(len(part)) for part in parts))
    show_table(table)
    if len(shapes.unlabelled):
        tell(f"{len(shapes.unlabelled)} shapes without a label")
    for note in shapes.notes:
        tell(f"note: {note}", style="dim")
    for problem in shapes.problems:
        warn(f"{problem.item}: {problem.reason}", label="unusable")
    if export is not None:
        count = export_folder(shapes, export)
        tell(f"wrote {count} clouds below {export}")
