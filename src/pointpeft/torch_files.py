"""Files of ``torch.save`` that others wrote, read without running code."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.errors import CheckpointError

__all__ = ["read_torch_file"]

# Checkpoints of research code keep accuracies as NumPy scalars, written under the module names of
# NumPy 1 or 2; these hold numbers only.
_SAFE_NUMPY: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLefd"),
    *(
        (getattr(np._core.multiarray, name), f"numpy.{core}.multiarray.{name}")  # type: ignore[attr-defined]
        for name in ("scalar", "_reconstruct")
        for core in ("core", "_core")
    ),
]


def read_torch_file(path: Path) -> Any:
    """What a file holds: tensors, numbers and text, by names or in lists.

    Raises:
        CheckpointError: it cannot be read, is damaged, or holds anything else, which could run code
            when loaded.
    """
    try:
        with torch.serialization.safe_globals(_SAFE_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # arbitrary bytes raise almost anything
        found = re.search(r"Unsupported (?:global|class|operand)[^\n]*", str(error))
        raise CheckpointError(
            f"{path} was refused: it is damaged, or contains objects other than tensors, numbers "
            "and text, which could run code when loaded "
            f"({found[0] if found else type(error).__name__})"
        ) from error
