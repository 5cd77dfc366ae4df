"""Weights that were read from a file, of ours or of another program."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.models.layout import Layout

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a file under our names.

    Attributes:
        source: the file.
        title: what the file was recognised as.
        state: tensors by name; the encoder's begin with ``backbone.``.
        metadata: what the file says about itself.
        layout: what another program calls the entries; None for a file of ours.
    """

    source: Path
    title: str
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    layout: Layout | None = None

    @property
    def task(self) -> Any:
        """What the model of the file is for."""
        return self.layout.task if self.layout else self.metadata["task"]
