"""A folder that classifies shapes in a browser: the model, its runtime, and a page.

Any server of static files can offer it. Pages opened as files may not load the runtime, which is
why it is a folder to be served, not one file.
"""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from pointpeft.errors import ConfigError
from pointpeft.exporting.graph import Exportable
from pointpeft.files import replacing, write_json

__all__ = ["MODEL", "check_page", "write_page"]

MODEL = "model.onnx"
_PROPERTIES = "model.json"
_SITE = (
    "index.html", "page.css", "page.js", "classify.js", "prepare.js", "read.js", "text.js",
    "tables.js", "triangles.js", "npy.js", "obj.js", "off.js", "ply.js", "stl.js",
    "onnxruntime-web.LICENSE.txt",
)  # fmt: skip
"""Our own files; the npm package has no licence text, so that it is among them."""
_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of onnxruntime-web that run models on the processor, in its folder ``dist``."""


def check_page(model: Exportable, runtime: Path) -> None:
    """Refuse what no page can be made of.

    Raises:
        ConfigError: the model is no classifier with names, or the runtime lacks a file.
    """
    adapter = model.adapter
    if model.task != "classification" or adapter is None or not adapter.class_names:
        raise ConfigError(
            "`format` web is for the adapter of a classifier, which has names of classes; "
            f"this is for {model.task}"
        )
    if not (adapter.input or {}).get("transform"):
        raise ConfigError("`format` web: the adapter does not state how its input is prepared")
    for name in _RUNTIME:
        if not _of_runtime(runtime, name).is_file():
            raise ConfigError(
                f"`runtime` {runtime} lacks dist/{name}: pass the unpacked npm package; `npm pack "
                "onnxruntime-web` fetches it, `tar xzf onnxruntime-web-*.tgz` makes the folder "
                "package"
            )


def write_page(folder: Path, model: Path, properties: dict[str, Any], runtime: Path) -> None:
    """Write a page.

    Args:
        folder: is made, or its files of these names are replaced, each of them whole.
        model: file of the model, which is copied.
        properties: what the model says of itself.
        runtime: the unpacked npm package onnxruntime-web.
    """
    site = files("pointpeft.exporting").joinpath("site")
    for name in _SITE:
        with replacing(folder / name) as temporary:
            temporary.write_bytes(site.joinpath(name).read_bytes())
    for name in _RUNTIME:
        _copy(_of_runtime(runtime, name), folder / name)
    write_json(folder / _PROPERTIES, properties)
    _copy(model, folder / MODEL)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _of_runtime(runtime: Path, name: str) -> Path:
    return runtime / "dist" / name
