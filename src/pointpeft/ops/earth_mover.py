"""Earth mover's distance: exact assignment, and the published soft matching."""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pointpeft.errors import DataError
from pointpeft.ops._checks import check_choice, check_cloud, check_same_batch
from pointpeft.ops._numerics import (
    common_precision,
    full_precision,
    pair_distance,
    pairwise_squared_distance,
    root,
)
from pointpeft.ops.gathering import select

__all__ = ["earth_mover_distance", "soft_matching"]

# Sharpness of the ten rounds of soft matching, per squared unit of the coordinates: from nearly a
# nearest-neighbour assignment to an even spread of what is left.
_LEVELS = (*(-(4.0**power) for power in range(7, -2, -1)), 0.0)
_EPSILON = 1e-9


def earth_mover_distance(
    a: Tensor, b: Tensor, method: Literal["exact", "soft"] = "exact", squared: bool = True
) -> Tensor:
    """Mean cost per point of moving one cloud onto the other, for each cloud of the batch.

    Differentiable in both clouds; the matching is constant. Float32 under autocast. Memory is
    quadratic in the number of points, and the time of "exact" is cubic: meant for clouds of up to
    a few thousand points.

    Args:
        a: ``(B, N, 3)`` coordinates.
        b: ``(B, M, 3)`` coordinates in the same unit; ``M = N`` for "exact".
        method: "exact" solves the assignment problem on the CPU for the cost that ``squared``
            selects. "soft" uses :func:`soft_matching` whatever ``squared`` is, as in the papers; it
            overestimates the optimum, by about a factor of two for spread clouds.
        squared: Cost of a pair: squared distance, or plain distance. The gradient of a plain
            distance at exact coincidence, where none exists, is 0.

    Returns:
        ``(B,)``: sum of costs divided by ``N``, in the squared or plain unit, float32 (float64 for
        float64 input). The published module returns the mean of the squared soft cost over the
        batch: ``earth_mover_distance(a, b, "soft").mean()``.

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, ``method`` is unknown, or the clouds differ in size for "exact".

    Source: "A point set generation network" (Fan et al., CVPR 2017), section 4.1.
    """
    check_cloud(a, "a")
    check_cloud(b, "b")
    check_same_batch(a, "a", b, "b")
    check_choice(method, "method", ("exact", "soft"))
    if method == "exact" and a.shape[1] != b.shape[1]:
        raise DataError(
            f"b must have as many points as a for the exact assignment, got {b.shape[1]} and "
            f'{a.shape[1]}; sample one of them, or use method="soft"'
        )
    a, b = common_precision(a, b)
    with full_precision(a):
        if method == "exact":
            partners = select(b, _assign(a.detach(), b.detach(), squared))
            return pair_distance(a, partners, squared).mean(1)
        match = _soft_match(a.detach(), b.detach()).transpose(1, 2)
        cost = pairwise_squared_distance(a, b)
        return (match * (cost if squared else root(cost))).sum((1, 2)) / a.shape[1]


def soft_matching(a: Tensor, b: Tensor) -> Tensor:
    """Match two clouds softly by ten annealed rounds of competing for capacity.

    In every round the free supply of ``a`` is offered to the points of ``b`` in proportion to
    ``exp(level * d^2)``, and each point of ``b`` accepts at most its free capacity. Not
    differentiable. Not invariant to scale: the levels suit clouds in the unit sphere.

    Args:
        a: ``(B, N, 3)`` coordinates.
        b: ``(B, M, 3)`` coordinates in the same unit.

    Returns:
        ``(B, M, N)`` non-negative weights: ``[:, j, i]`` is the amount moved from ``a_i`` to
        ``b_j``. The supply of each ``a_i`` is ``max(1, M // N)``, the capacity of each ``b_j`` is
        ``max(1, N // M)``.

    Raises:
        DataError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, or the batch
            sizes differ.

    Source: ``approxmatch`` of "A point set generation network" (Fan et al., CVPR 2017).
    """
    check_cloud(a, "a")
    check_cloud(b, "b")
    check_same_batch(a, "a", b, "b")
    a, b = common_precision(a.detach(), b.detach())
    with full_precision(a):
        return _soft_match(a, b)


def _soft_match(a: Tensor, b: Tensor) -> Tensor:
    rows, columns = a.shape[1], b.shape[1]
    distances = pairwise_squared_distance(a, b)  # (B, N, M)
    match = torch.zeros_like(distances)
    supply = distances.new_full((a.shape[0], rows, 1), max(1, columns // rows))
    capacity = distances.new_full((a.shape[0], 1, columns), max(1, rows // columns))
    for level in _LEVELS:
        kernel = (level * distances).exp()
        offered = supply / (_EPSILON + (kernel * capacity).sum(2, keepdim=True))
        received = capacity * (kernel * offered).sum(1, keepdim=True)
        accepted = capacity * (capacity / (received + _EPSILON)).clamp(max=1)
        moved = kernel * offered * accepted
        match += moved
        supply = (supply - moved.sum(2, keepdim=True)).clamp(min=0)
        capacity = (capacity - received).clamp(min=0)
    return match.transpose(1, 2).contiguous()


@torch.library.custom_op("pointpeft::optimal_assignment", mutates_args=())
def _assign(a: Tensor, b: Tensor, squared: bool) -> Tensor:
    """``(B, N)`` index of the partner in ``b`` of each point of ``a``, at minimal total cost."""
    columns = []
    for cloud_a, cloud_b in zip(a.double(), b.double(), strict=True):
        cost = pairwise_squared_distance(cloud_a.unsqueeze(0), cloud_b.unsqueeze(0))[0]
        cost = cost if squared else cost.sqrt()
        columns.append(torch.from_numpy(linear_sum_assignment(cost.cpu().numpy())[1]))
    return torch.stack(columns).to(a.device)


@_assign.register_fake
def _(a: Tensor, b: Tensor, squared: bool) -> Tensor:
    return a.new_empty(a.shape[:2], dtype=torch.int64)
