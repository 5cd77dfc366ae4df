"""The index searches of :mod:`pointpeft.ops` in the operators of ONNX.

Distances are sums in the same order, and ties go to the lowest index, as ``ArgMax`` and ``TopK`` of
ONNX do by their definition: what is chosen is the same, index by index.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir
import torch
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op

from pointpeft.ops.sampling import NEAR_ORIGIN_SQUARED, SKIPPED

__all__ = ["LACKING", "TRANSLATIONS"]

LACKING: dict[Callable, str] = {torch.ops.aten.linalg_eigh.default: "eigenvectors"}
"""Operators of PyTorch that ONNX has none for, and what they compute."""


@script(default_opset=op)  # type: ignore[untyped-decorator]
def _choose(
    x: FLOAT[...],
    y: FLOAT[...],
    z: FLOAT[...],
    nearest: FLOAT[...],
    chosen: INT64[...],
    count: INT64,
) -> INT64[...]:
    """Coordinates ``(B, N)`` and first places ``(B, 1)`` -> ``(B, 1 + count)``, by a ``Loop``."""
    last = op.Identity(chosen)
    for _ in range(count):
        dx = x - op.GatherElements(x, last, axis=1)
        dy = y - op.GatherElements(y, last, axis=1)
        dz = z - op.GatherElements(z, last, axis=1)
        nearest = op.Min(nearest, dx * dx + dy * dy + dz * dz)
        last = op.ArgMax(nearest, axis=1, keepdims=1)
        chosen = op.Concat(chosen, last, axis=1)
    return chosen


def _farthest_point_sample(points: Any, num_samples: int, skip_near_origin: bool) -> Any:
    """``(B, N, 3) -> (B, num_samples)``: see :func:`pointpeft.ops.farthest_point_sample`."""
    x, y, z = _axes(points)
    norm = x * x + y * y + z * z
    far = op.Expand(_constant(float("inf")), op.Shape(x))
    if skip_near_origin:
        limit = op.Constant(value=onnx_ir.tensor(NEAR_ORIGIN_SQUARED, onnx_ir.DataType.DOUBLE))
        near = op.LessOrEqual(op.Cast(norm, to=onnx_ir.DataType.DOUBLE), limit)
        far = op.Where(near, _constant(SKIPPED), far)
    first = op.ArgMin(op.Mul(x, _constant(0.0)), axis=1, keepdims=1)  # zeros, (B, 1)
    return _choose(x, y, z, far, first, op.Constant(value_int=num_samples - 1))


def _knn(query: Any, points: Any, k: int) -> Any:
    """``(B, Q, 3)``, ``(B, N, 3)`` -> twice ``(B, Q, k)``: see :func:`pointpeft.ops.knn`."""
    pairs = zip(_axes(query), _axes(points), strict=True)
    dx, dy, dz = (op.Sub(op.Unsqueeze(q, [2]), op.Unsqueeze(p, [1])) for q, p in pairs)
    distances = dx * dx + dy * dy + dz * dz
    return op.TopK(distances, [k], axis=2, largest=0, sorted=1)


def _axes(points: Any) -> tuple[Any, Any, Any]:
    """x, y and z of ``(B, N, 3)``, each ``(B, N)``."""
    x, y, z = (op.Gather(points, axis, axis=2) for axis in range(3))
    return x, y, z


def _constant(value: float) -> Any:
    return op.Constant(value_float=value)


TRANSLATIONS: dict[Callable, Callable] = {
    torch.ops.pointpeft.farthest_point_sample.default: _farthest_point_sample,
    torch.ops.pointpeft.knn.default: _knn,
}
"""How the exporter writes our operators."""
