"""Farthest point sampling."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointpeft.ops._checks import check_cloud, check_count
from pointpeft.ops._large_clouds import sample_large
from pointpeft.ops._numerics import working

__all__ = ["farthest_point_sample"]

# The reference CUDA sampler compares the float32 squared norm with this float64 number.
NEAR_ORIGIN_SQUARED = 1e-3
SKIPPED = -1.0  # below every distance, so that a skipped point never wins the arg-max

# From so many points and samples on, it pays to sort a cloud into boxes.
_LARGE_CLOUD = 1 << 14
_MANY_SAMPLES = 1 << 8

# Points of all clouds that one pass of the CPU sampler works on: keeps its arrays in the cache.
_CPU_BLOCK = 1 << 15


def farthest_point_sample(
    points: Tensor, num_samples: int, skip_near_origin: bool = False
) -> Tensor:
    """Choose points one after another, each the farthest from all chosen before.

    Starts at index 0; equal distances go to the lowest index. The first ``m`` of ``n`` samples are
    the result for ``m`` samples. When every point coincides with a chosen one, the lowest of the
    coincident indices is repeated. Not differentiable; gather the points to get gradients.

    On a CPU, many samples of a large cloud are chosen without looking at every point for each.

    Args:
        points: ``(B, N, 3)`` coordinates in any unit.
        num_samples: Points to choose per cloud, between 1 and ``N``.
        skip_near_origin: Follow the sampler of ``pointnet2_ops``, with which the published
            checkpoints were trained: points with squared norm <= 1e-3 are never chosen, except
            index 0 as the first pick. With nothing else left, chosen points are repeated.

    Returns:
        ``(B, num_samples)`` int64 indices into ``points``, in the order chosen.

    Raises:
        DataError: If ``points`` is not a finite, non-empty ``(B, N, 3)`` float tensor, or
            ``num_samples`` is not between 1 and ``N``.

    Source: Eldar et al., "The farthest point strategy for progressive image sampling", 1997;
        ``furthest_point_sample`` of pointnet2_ops.
    """
    check_cloud(points, "points")
    check_count(num_samples, "num_samples", points.shape[1], "the number of points")
    return _sample(working(points.detach()), num_samples, skip_near_origin)


@torch.library.custom_op("pointpeft::farthest_point_sample", mutates_args=())
def _sample(points: Tensor, num_samples: int, skip_near_origin: bool) -> Tensor:
    """Any device: one arg-max over ``(B, N)`` per sample, no transfer to the host."""
    batch = torch.arange(points.shape[0], device=points.device)
    x, y, z = (axis.contiguous() for axis in points.unbind(-1))
    nearest = initial_distances(x, y, z, skip_near_origin)
    chosen = torch.zeros(points.shape[0], num_samples, dtype=torch.int64, device=points.device)
    for step in range(1, num_samples):
        last = points[batch, chosen[:, step - 1]]
        dx, dy, dz = x - last[:, :1], y - last[:, 1:2], z - last[:, 2:]
        nearest = torch.minimum(nearest, dx * dx + dy * dy + dz * dz)
        chosen[:, step] = nearest.argmax(1)
    return chosen


def initial_distances(x: Tensor, y: Tensor, z: Tensor, skip_near_origin: bool) -> Tensor:
    """What the distances ``(B, N)`` to the chosen points are before the first one is chosen."""
    nearest = torch.full_like(x, torch.inf)
    if not skip_near_origin:
        return nearest
    norm = x * x + y * y + z * z
    return nearest.masked_fill(norm.double() <= NEAR_ORIGIN_SQUARED, SKIPPED)


@_sample.register_fake
def _(points: Tensor, num_samples: int, skip_near_origin: bool) -> Tensor:
    return points.new_empty((points.shape[0], num_samples), dtype=torch.int64)


@_sample.register_kernel("cpu")
@np.errstate(over="ignore")
def _sample_cpu(points: Tensor, num_samples: int, skip_near_origin: bool) -> Tensor:
    """CPU: NumPy, whose arg-max is vectorised; large clouds singly, others several at a time."""
    clouds = points.numpy()
    num_clouds, num_points = clouds.shape[:2]
    chosen = np.zeros((num_clouds, num_samples), dtype=np.int64)
    nearest = np.full((num_clouds, num_points), np.inf, dtype=clouds.dtype)
    if skip_near_origin:
        x, y, z = np.moveaxis(clouds, -1, 0)
        norm = x * x + y * y + z * z
        nearest[norm.astype(np.float64) <= NEAR_ORIGIN_SQUARED] = SKIPPED
    if num_points >= _LARGE_CLOUD and num_samples >= _MANY_SAMPLES:
        for cloud in zip(clouds, nearest, chosen, strict=True):
            sample_large(*cloud)
    else:
        step = max(1, _CPU_BLOCK // num_points)
        for start in range(0, num_clouds, step):
            block = slice(start, start + step)
            _sample_block(clouds[block], nearest[block], chosen[block])
    return torch.from_numpy(chosen)


def _sample_block(clouds: NDArray, nearest: NDArray, chosen: NDArray) -> None:
    """Fill ``chosen (b, num_samples)``, whose first column is set, for ``clouds (b, N, 3)``."""
    axes = np.ascontiguousarray(np.moveaxis(clouds, -1, 0))
    batch = np.arange(len(clouds))
    terms = np.empty_like(axes)
    distance, dy, dz = terms
    for step in range(1, chosen.shape[1]):
        last = axes[:, batch, chosen[:, step - 1], None]
        np.subtract(axes, last, out=terms)
        np.multiply(terms, terms, out=terms)
        np.add(distance, dy, out=distance)
        np.add(distance, dz, out=distance)
        np.minimum(nearest, distance, out=nearest)
        np.argmax(nearest, axis=1, out=chosen[:, step])
