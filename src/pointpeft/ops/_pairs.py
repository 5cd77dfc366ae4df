"""Distances of matched pairs, with a finite gradient where the points coincide."""

import torch
from torch import Tensor

__all__ = ["pair_distance", "root"]


def pair_distance(points: Tensor, partners: Tensor, squared: bool) -> Tensor:
    """``(..., 3)`` twice -> ``(...)``: squared or plain distance of corresponding points."""
    distances = (points - partners).square().sum(-1)
    return distances if squared else root(distances)


def root(squared_distances: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, one of its subgradients as a norm, instead of NaN."""
    apart = squared_distances != 0  # NaN stays NaN
    return torch.where(apart, squared_distances, 1.0).sqrt() * apart
