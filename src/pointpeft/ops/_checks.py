"""Checks of arguments shared by all point operations.

Shapes and dtypes are always checked. Values (finite coordinates, index range) cost one reduction
and, on an accelerator, one synchronisation; they are checked on ordinary calls only, and skipped
while a graph is traced or captured, where a tensor has no value to look at.
"""

import torch
from torch import Tensor

from pointpeft.errors import DataError

__all__ = [
    "check_choice",
    "check_cloud",
    "check_count",
    "check_features",
    "check_indices",
    "check_positive",
    "check_same_batch",
    "values_are_known",
]


def values_are_known(tensor: Tensor) -> bool:
    """Whether Python code may look at the values of ``tensor`` here."""
    if torch.compiler.is_compiling() or tensor.is_meta:
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def check_cloud(cloud: Tensor, name: str) -> None:
    """Raise ``DataError`` unless ``cloud`` is a finite, non-empty float tensor ``(B, N, 3)``."""
    check_features(cloud, name, "(B, N, 3)")
    if cloud.shape[-1] != 3:
        raise DataError(
            f"{name} must have shape (B, N, 3), got {tuple(cloud.shape)}: the last dimension "
            f"holds x, y and z; pass normals or colours separately"
        )


def check_features(features: Tensor, name: str, shape: str = "(B, N, C)") -> None:
    """Raise ``DataError`` unless ``features`` is a finite, non-empty float tensor of rank 3."""
    if not isinstance(features, Tensor):
        raise DataError(f"{name} must be a tensor {shape}, got {type(features).__name__}")
    if features.ndim != 3:
        hint = f"; add a batch dimension with {name}.unsqueeze(0)" if features.ndim == 2 else ""
        raise DataError(f"{name} must have shape {shape}, got {tuple(features.shape)}{hint}")
    if not features.dtype.is_floating_point:
        raise DataError(f"{name} must be floating point, got {features.dtype}; call {name}.float()")
    if 0 in features.shape:
        raise DataError(
            f"{name} must hold at least one cloud and one point, got shape {tuple(features.shape)}"
        )
    _check_finite(features.detach(), name)


def _check_finite(values: Tensor, name: str) -> None:
    """One cheap sum for the common case; a closer look only when the sum is not finite."""
    if not values_are_known(values) or bool(values.sum().isfinite()):
        return
    bad = ~values.isfinite()
    if bool(bad.any()):
        raise DataError(
            f"{name} must be finite, got {int(bad.sum())} NaN or infinite values, the first in "
            f"cloud {int(bad.flatten(1).any(1).int().argmax())}; remove those points"
        )


def check_same_batch(first: Tensor, first_name: str, second: Tensor, second_name: str) -> None:
    """Raise ``DataError`` unless both tensors have the same batch size and device."""
    if first.shape[0] != second.shape[0]:
        raise DataError(
            f"{second_name} must have the batch size of {first_name}, "
            f"got {second.shape[0]} and {first.shape[0]}"
        )
    if first.device != second.device:
        raise DataError(
            f"{second_name} must be on the device of {first_name}, "
            f"got {second.device} and {first.device}"
        )


def check_count(value: int, name: str, limit: int, limit_name: str) -> None:
    """Raise ``DataError`` unless ``1 <= value <= limit``."""
    if not 1 <= value <= limit:
        raise DataError(f"{name} must be between 1 and {limit_name} = {limit}, got {value}")


def check_positive(value: float, name: str) -> None:
    """Raise ``DataError`` unless ``value`` is positive and finite."""
    if not 0 < value < float("inf"):
        raise DataError(f"{name} must be positive and finite, got {value}")


def check_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    """Raise ``DataError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise DataError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_indices(indices: Tensor, name: str, limit: int) -> None:
    """Raise ``DataError`` unless ``indices`` are integers in ``[0, limit)``."""
    if indices.dtype not in (torch.int32, torch.int64):
        raise DataError(f"{name} must be int64 or int32, got {indices.dtype}")
    if indices.ndim < 1:
        raise DataError(f"{name} must have shape (B, ...), got ()")
    if indices.numel() == 0 or not values_are_known(indices):
        return
    lowest, highest = (int(value) for value in torch.aminmax(indices))
    if lowest < 0 or highest >= limit:
        raise DataError(f"{name} must lie in [0, {limit}), got values from {lowest} to {highest}")
