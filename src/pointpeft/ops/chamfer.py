"""Chamfer distance."""

from typing import Literal, overload

import torch
from torch import Tensor

from pointpeft.ops._checks import check_choice, check_cloud, check_same_batch
from pointpeft.ops._neighbor_search import first_minimum, tree_is_faster
from pointpeft.ops._numerics import common_precision, distance_tiles, full_precision, pair_distance
from pointpeft.ops.gathering import select
from pointpeft.ops.neighbors import find_nearest

__all__ = ["chamfer_distance", "rebuilding_error"]

Norm = Literal["l1", "l2"]
"""Distances, or their squares."""


@overload
def chamfer_distance(
    a: Tensor, b: Tensor, norm: Norm = ..., reduction: Literal["mean"] = ...
) -> Tensor: ...


@overload
def chamfer_distance(
    a: Tensor, b: Tensor, norm: Norm = ..., *, reduction: Literal["directions", "none"]
) -> tuple[Tensor, Tensor]: ...


@overload
def chamfer_distance(
    a: Tensor, b: Tensor, norm: Norm, reduction: Literal["directions", "none"]
) -> tuple[Tensor, Tensor]: ...


def chamfer_distance(
    a: Tensor,
    b: Tensor,
    norm: Norm = "l2",
    reduction: Literal["mean", "directions", "none"] = "mean",
) -> Tensor | tuple[Tensor, Tensor]:
    """Distance of every point to the nearest point of the other cloud, in both directions.

    Differentiable in both clouds through the matched pairs; the matching is constant, the first
    index on ties. Memory is linear in ``N`` and ``M``. Float32 under autocast.

    The rule for ties has its price on a CPU: a tree that may return any nearest point, as rounding
    has it, matches clouds of a thousand points in about two thirds of the time.

    Args:
        a: ``(B, N, 3)`` coordinates.
        b: ``(B, M, 3)`` coordinates in the same unit.
        norm: "l2" takes squared distances (the loss of Point-MAE). "l1" takes distances; its
            gradient at exact coincidence, where none exists, is 0 (the reference gives NaN).
        reduction: "mean": one number, over all clouds and points, ``mean(a to b) + mean(b to a)``
            for "l2" and half of it for "l1". "directions": the two means, not halved.
            "none": the values of every point.

    Returns:
        A scalar, two scalars, or ``(B, N)`` and ``(B, M)``; float32 (float64 for float64 input), in
        the unit of the coordinates ("l1") or squared ("l2").

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, or ``norm`` or ``reduction`` is unknown.

    Source: "A point set generation network" (Fan et al., CVPR 2017), section 4.1.
    """
    check_cloud(a, "a")
    check_cloud(b, "b")
    check_same_batch(a, "a", b, "b")
    check_choice(norm, "norm", ("l1", "l2"))
    check_choice(reduction, "reduction", ("mean", "directions", "none"))
    if reduction == "mean":
        return rebuilding_error(a, b, norm)
    from_a, from_b = _nearest_distances(a, b, norm)
    return (from_a, from_b) if reduction == "none" else (from_a.mean(), from_b.mean())


def rebuilding_error(a: Tensor, b: Tensor, norm: Norm = "l2") -> Tensor:
    """:func:`chamfer_distance` without checks, its mean, for points that a network made."""
    mean_a, mean_b = (distances.mean() for distances in _nearest_distances(a, b, norm))
    return mean_a + mean_b if norm == "l2" else (mean_a + mean_b) / 2


def _nearest_distances(a: Tensor, b: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Of every point to the nearest one of the other cloud, ``(B, N)`` and ``(B, M)``."""
    squared = norm == "l2"
    a, b = common_precision(a, b)
    with full_precision(a):
        nearest_in_b, nearest_in_a = _match(a.detach(), b.detach())
        from_a = pair_distance(a, select(b, nearest_in_b), squared)
        from_b = pair_distance(b, select(a, nearest_in_a), squared)
    return from_a, from_b


@torch.library.custom_op("pointpeft::match_nearest", mutates_args=())
def _match(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest point of ``b`` for each of ``a``, and the reverse."""
    if a.device.type == "cpu" and tree_is_faster(a.shape[1], b.shape[1], 1):
        return find_nearest(a, b, 1).squeeze(-1), find_nearest(b, a, 1).squeeze(-1)
    nearest_in_b = a.new_empty(a.shape[:2], dtype=torch.int64)
    nearest_in_a = a.new_zeros(b.shape[:2], dtype=torch.int64)
    smallest = a.new_full(b.shape[:2], torch.inf)
    for cloud, row, tile in distance_tiles(a, b):
        nearest_in_b[cloud, row] = first_minimum(tile, -1)
        index = first_minimum(tile, -2)
        distance = tile.gather(1, index.unsqueeze(1)).squeeze(1)
        closer = (distance < smallest[cloud]) | distance.isnan()
        nearest_in_a[cloud] = torch.where(closer, index + row.start, nearest_in_a[cloud])
        smallest[cloud] = torch.where(closer, distance, smallest[cloud])
    return nearest_in_b, nearest_in_a


@_match.register_fake
def _(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.int64
    return a.new_empty(a.shape[:2], dtype=index), a.new_empty(b.shape[:2], dtype=index)
