"""The verb visualize, which writes a page about pre-training."""

from pathlib import Path
from typing import Annotated

import typer

from pointpeft.cli import options
from pointpeft.cli.console import tell
from pointpeft.errors import ConfigError, DataError

__all__ = ["visualize"]

_FOLDER = Path("runs/visualize")


def visualize(
    source: Annotated[
        Path,
        typer.Argument(metavar="SHAPE_OR_RUN", help="A mesh or scan, or the folder of a run."),
    ],
    overrides: options.Overrides = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Of a shape: folder of a pre-training run, or a file of weights."),
    ] = None,
    model: options.Model = None,
    output: Annotated[Path | None, typer.Option(help="The page to write, .html.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the mask.")] = None,
    up_axis: options.UpAxis = None,
) -> None:
    """Show what pre-training sees of a shape, or the curves of a pre-training run, as a page."""
    if not source.exists():
        raise DataError(f"{source} does not exist; pass a mesh, a scan, or the folder of a run")
    given = (overrides, checkpoint, model, seed, up_axis)
    if source.is_dir() and any(each is not None for each in given):
        raise ConfigError(
            f"{source} is the folder of a run, whose curves are shown: only `output` goes with "
            "it. To see a shape, pass its file and the folder as `checkpoint`"
        )
    from pointpeft.training import visualizing  # slow

    if source.is_dir():
        page = visualizing.visualize_run(source, output)
    else:
        settings = {"model": model, "seed": seed, "data.up_axis": up_axis}
        config = visualizing.view_config(checkpoint, overrides or [], **settings)
        page = visualizing.visualize_shape(
            source, config, output or _FOLDER / f"{source.stem}.html"
        )
    tell(f"page: {page}")
