"""Which rows the Geometry-aware Adapter groups, and how group features reach the tokens.

Everything here depends on coordinates alone, so it is computed once per forward pass.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointpeft.ops import farthest_point_sample, gather_points, inverse_distance_weights, knn

__all__ = ["LocalGroups", "local_groups"]


class LocalGroups(NamedTuple):
    """Second-level groups of a batch; rows of all clouds are numbered as if stacked.

    Attributes:
        neighbors: ``(B g, s)`` row numbers of the members of each group.
        centers: ``(B g,)`` row number of each group's center.
        weights: ``(B, G, g)`` share of each group in each token, rows summing to one.
    """

    neighbors: Tensor
    centers: Tensor
    weights: Tensor


def local_groups(
    tokens: Tensor, rows: Tensor, num_groups: int, group_size: int, skip_near_origin: bool = False
) -> LocalGroups:
    """Groups of neighbouring rows, and inverse-distance weights back to the tokens.

    Args:
        tokens: coordinates of the patch tokens ``(B, G, 3)``, which receive.
        rows: coordinates of the feature rows ``(B, R, 3)``, which are grouped.
        num_groups: groups g, around farthest rows beginning with row 0.
        group_size: rows s per group, the nearest to its center.
        skip_near_origin: sampling rule of the papers' CUDA sampler.
    """
    neighbors, centers, group_coordinates = _group(rows, num_groups, group_size, skip_near_origin)
    offset = _offsets(rows, stride=rows.shape[1])
    return LocalGroups(
        (neighbors + offset.unsqueeze(-1)).flatten(0, 1),
        (centers + offset).flatten(),
        inverse_distance_weights(tokens, group_coordinates),
    )


def _group(
    rows: Tensor, num_groups: int, group_size: int, skip_near_origin: bool
) -> tuple[Tensor, Tensor, Tensor]:
    centers = farthest_point_sample(rows.detach(), num_groups, skip_near_origin)  # (B, g)
    coordinates = gather_points(rows, centers)
    _, neighbors = knn(coordinates.detach(), rows.detach(), group_size)  # (B, g, s)
    return neighbors, centers, coordinates


def _offsets(rows: Tensor, stride: int) -> Tensor:
    """First row number of each cloud, ``(B, 1)``."""
    return torch.arange(len(rows), device=rows.device).unsqueeze(1) * stride
