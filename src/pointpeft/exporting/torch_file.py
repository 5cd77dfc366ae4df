"""An exported graph as a file of ``torch.export``, and that file compared with the model."""

from pathlib import Path

import torch

from pointpeft.errors import ConfigError
from pointpeft.exporting.graph import Exportable, described, first_line, silent, trace
from pointpeft.exporting.torch_operators import DECOMPOSITIONS

__all__ = ["PROPERTIES", "compare", "write_torch"]

PROPERTIES = "pointpeft.json"
"""Name of the properties among the extra files of a ``.pt2`` file."""


def write_torch(model: Exportable, path: Path, properties: str) -> None:
    """Write a model, with properties as JSON beside its graph.

    Raises:
        ConfigError: something in the model has no counterpart among PyTorch's own operators.
    """
    graph = trace(model)
    try:
        with path.open("wb") as file, silent():
            graph = graph.run_decompositions(DECOMPOSITIONS)
            _forget_places(graph)
            torch.export.save(graph, file, extra_files={PROPERTIES: properties})
    except Exception as error:  # whatever the exporter gives
        raise ConfigError(
            f"{described(model)} cannot be written by torch.export: {first_line(error)}"
        ) from error


def _forget_places(graph: torch.export.ExportedProgram) -> None:
    """Take away which lines of which files on this machine made the graph."""
    for module in graph.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def compare(model: Exportable, path: Path) -> float:
    """Run a file on random clouds, of another number than it was traced with.

    Returns:
        The largest difference from the model, in parts of the largest output or of 1.
    """
    example = model.example(clouds=2, seed=1)
    with path.open("rb") as file, silent():
        loaded = torch.export.load(file).module()
    with torch.no_grad():
        found, expected = loaded(*example), model(*example)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
