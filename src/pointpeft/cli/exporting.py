"""The verb export."""

from pathlib import Path
from typing import Annotated

import typer

from pointpeft.cli import options
from pointpeft.cli.console import tell

__all__ = ["export"]


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_ADAPTER_OR_BACKBONE",
            help="Folder of a run or adapter, weights of a backbone, or its name.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="File to write; of a page, a folder.")],
    format: Annotated[
        str, typer.Option(help="onnx; torch, for torch.export; or web, a page for browsers.")
    ] = "onnx",
    sampling: Annotated[
        str, typer.Option(help="inside: points go in; outside: patches, which the caller cuts.")
    ] = "inside",
    precision: Annotated[
        str, typer.Option(help="Of the weights, in ONNX: float32, float16 or int8.")
    ] = "float32",
    runtime: Annotated[
        Path | None,
        typer.Option(help="Of a page: the unpacked npm package onnxruntime-web."),
    ] = None,
    checkpoint: options.Checkpoint = None,
    model: options.Model = None,
    method: options.Method = None,
) -> None:
    """Write a model as a file that runs without this library, and compare it with the model."""
    options.know_method(method)
    from pointpeft.exporting import export as write  # slow

    written = write(source, output, format, sampling, precision, runtime, checkpoint, model)
    what = written.properties
    tell(f"{written.path}: {written.num_bytes / 1e6:.1f} MB, {', '.join(what['inputs'])} -> "
         f"{what['output']}")  # fmt: skip
    tell(f"largest difference from the model, on two random clouds: {written.difference:.1e}")
    tell(f"weights of the backbone: {what['licence']}")
    if format == "web":
        tell(f"to look at it: python -m http.server --directory {written.path}")
