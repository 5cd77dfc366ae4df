"""``pointpeft.export``: a model as a file that needs neither this library nor Python."""

import importlib.util
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointpeft.errors import ConfigError
from pointpeft.exporting.description import as_texts, describe
from pointpeft.exporting.graph import Exportable
from pointpeft.exporting.source import load_source
from pointpeft.files import replacing
from pointpeft.models.network import Network
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel

__all__ = ["FORMATS", "PRECISIONS", "SAMPLINGS", "Exported", "export"]

FORMATS = ("onnx", "torch", "web")
PRECISIONS = ("float32", "float16", "int8")
SAMPLINGS = ("inside", "outside")

_TOLERANCE = 1e-4
"""Largest difference between a file in single precision and its model."""
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file, or of the folder of a page.
        num_bytes: of the model's file.
        difference: largest difference from the model on two random clouds, in parts of the largest
            output or of 1.
        properties: what the file says of itself.
    """

    path: Path
    num_bytes: int
    difference: float
    properties: dict[str, Any]


def export(
    what: Trunk | Network | PeftModel | str | Path,
    output: str | Path,
    format: str = "onnx",
    sampling: str = "inside",
    precision: str = "float32",
    runtime: str | Path | None = None,
    checkpoint: str | Path | None = None,
    model: str | None = None,
) -> Exported:
    """Write a model for other programs, and compare what was written with it.

    It takes points, ``(clouds, N, 3)`` float32 for any number of clouds, prepared as its properties
    say, and gives ``probabilities (clouds, classes)``, calibrated as those of the adapter are; for
    part segmentation, with the numbers of categories ``(clouds,)``, ``logits (clouds, N, parts)``;
    of an encoder ``features (clouds, C)``. An adapter is merged into the weights where its method
    can be, and built in where not.

    Args:
        what: a model; the folder of an adapter or run; weights of a backbone, or its name.
        output: file to write; of a page, a folder.
        format: "onnx"; "torch", a file of ``torch.export``; "web", a page that classifies files in
            the browser of the visitor.
        sampling: "inside": farthest points and their neighbours are found in the graph. "outside":
            the caller cuts clouds into ``neighborhoods (clouds, G, S, 3)`` around
            ``centers (clouds, G, 3)``.
        precision: of the weights, in ONNX files. "float16" halves the file and computes in single
            precision; "int8" takes a quarter, and rounds what enters products too.
        runtime: of a page: the unpacked npm package onnxruntime-web.
        checkpoint: weights of an adapter's encoder, where they are not found.
        model: name of a backbone, where its file does not say it.

    Raises:
        ConfigError: an argument is none of these, the model has something that the format lacks, a
            library is missing, or what was written differs from the model by more than 1e-4.
        CheckpointError: there is no such model.

    Example:
        >>> pp.export("runs/finetune", "chairs.onnx")  # doctest: +SKIP
    """
    _check(format, sampling, precision, runtime)
    if format != "torch":
        _need_libraries()
    whole = Exportable(load_source(what, checkpoint, model), sampling == "outside")
    properties = describe(whole, precision)
    output = Path(output)
    if format == "web":
        return _export_page(whole, output, precision, properties, Path(runtime or ""))
    if output.is_dir():
        raise ConfigError(f"`output` {output} is a folder: pass the name of a file")
    with replacing(output) as temporary:
        difference = _write(whole, temporary, format, precision, properties)
        size = temporary.stat().st_size
    return Exported(output, size, difference, properties)


def _check(format: str, sampling: str, precision: str, runtime: str | Path | None) -> None:
    """Refuse what there is not, and what does not go together."""
    choices = (("format", format, FORMATS), ("sampling", sampling, SAMPLINGS))
    for name, value, known in (*choices, ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ConfigError(f"`{name}` must be one of {', '.join(known)}, got {value!r}")
    if (format == "web") != (runtime is not None):
        raise ConfigError(
            "`runtime` must be the unpacked npm package onnxruntime-web: `npm pack "
            "onnxruntime-web` fetches it, `tar xzf onnxruntime-web-*.tgz` makes the folder package"
            if format == "web"
            else f"`runtime` is for `format` web: leave it out with {format}"
        )
    if format == "torch" and precision != "float32":
        raise ConfigError(f"`precision` {precision} is for ONNX files: leave it out with torch")
    if format == "web" and sampling == "outside":
        raise ConfigError("`sampling` outside is for programs of your own: a page samples inside")


def _export_page(
    model: Exportable, folder: Path, precision: str, properties: dict[str, Any], runtime: Path
) -> Exported:
    from pointpeft.exporting.browser_page import MODEL, check_page, write_page

    check_page(model, runtime)
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / MODEL
        difference = _write(model, written, "onnx", precision, properties)
        write_page(folder, written, properties, runtime)
    return Exported(folder, (folder / MODEL).stat().st_size, difference, properties)


def _write(
    model: Exportable, path: Path, format: str, precision: str, properties: dict[str, Any]
) -> float:
    """Write a file; returns its difference from the model."""
    if format == "torch":
        from pointpeft.exporting.torch_file import compare, write_torch

        write_torch(model, path, json.dumps(properties))
    else:
        from pointpeft.exporting.onnx_file import compare, write_onnx

        write_onnx(model, path, precision, as_texts(properties))
    difference = compare(model, path)
    if not math.isfinite(difference):
        raise ConfigError("what was written gives numbers that are not finite: nothing is kept")
    if precision == "float32" and not difference <= _TOLERANCE:
        raise ConfigError(
            f"what was written differs from the model by {difference:.2g}, more than "
            f"{_TOLERANCE:g}: nothing is kept, since it could not be trusted"
        )
    return difference


def _need_libraries() -> None:
    lacking = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(f"{lacking[0]} is not installed: pip install 'pointpeft[export]'")
