"""An exported graph as a file of ONNX, and that file compared with the model."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxscript.optimizer import fold_constants, remove_unused_nodes

from pointpeft.errors import ConfigError
from pointpeft.exporting.graph import Exportable, described, first_line, silent, trace
from pointpeft.exporting.onnx_operators import LACKING, TRANSLATIONS

__all__ = ["compare", "write_onnx"]

_LARGE = 1 << 10
"""Values from which on a tensor is worth storing in half precision."""
_LARGEST_HALF = 65504.0


def write_onnx(model: Exportable, path: Path, precision: str, properties: dict[str, str]) -> None:
    """Write a model.

    Args:
        model: to be written.
        path: of the file.
        precision: "float32", "float16" or "int8", see :func:`pointpeft.export`.
        properties: go into the file's ``metadata_props``.

    Raises:
        ConfigError: something in the model has no counterpart in ONNX.
    """
    graph = trace(model)
    _refuse_lacking(model, graph)
    try:
        with silent():
            program = torch.onnx.export(
                graph,
                dynamo=True,
                custom_translation_table=TRANSLATIONS,
                input_names=list(model.inputs),
                output_names=[model.output],
                # The optimizer takes 1e-8, which keeps divisors from 0, for 0.
                optimize=False,
                verbose=False,
            )
            assert program is not None, "asked for"
            fold_constants(program.model)
            remove_unused_nodes(program.model)
        written = program.model_proto
        _forget_origin(written.graph)
    except Exception as error:  # whatever the exporter gives
        raise ConfigError(
            f"{described(model)} cannot be written as ONNX: {first_line(error)}"
        ) from error
    if precision == "float16":
        _halve(written.graph)
    if precision == "int8":
        written = _quantized(written)
    onnx.helper.set_model_props(written, properties)
    onnx.save(written, path)


def compare(model: Exportable, path: Path) -> float:
    """Run a file on random clouds, of another number than it was traced with.

    Returns:
        The largest difference from the model, in parts of the largest output or of 1.
    """
    example = model.example(clouds=2, seed=1)
    with torch.no_grad():
        expected = model(*example).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {name: value.numpy() for name, value in zip(model.inputs, example, strict=True)}
    (found,) = session.run(None, given)
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _refuse_lacking(model: Exportable, graph: torch.export.ExportedProgram) -> None:
    for node in graph.graph.nodes:
        if node.target in LACKING:
            raise ConfigError(
                f"{described(model)} cannot be written as ONNX: it needs {LACKING[node.target]}, "
                "for which ONNX has no operator: pass `format` torch, or take another method"
            )


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Leave out which lines of which files on this machine the nodes came from."""
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_origin(attribute.g)
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        value.ClearField("metadata_props")


def _halve(graph: onnx.GraphProto) -> None:
    """Store large tensors in half precision; they become single again when the file is loaded."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _LARGE:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if np.abs(values).max() > _LARGEST_HALF:
            continue
        name, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _quantized(written: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of products in 8 bits, and their inputs as they come; all else stays as it is."""
    with tempfile.TemporaryDirectory() as folder, silent():
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        onnx.save(written, plain)
        # Weights that are turned by the graph are turned now, so that they are found.
        quant_pre_process(plain, plain, skip_symbolic_shape=True)
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True)
        return onnx.load(small)
