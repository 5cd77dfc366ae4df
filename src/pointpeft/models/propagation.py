"""Layers that carry features of sparse centers to denser points, for part segmentation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models.layers import EdgeConv
from pointpeft.ops import knn
from pointpeft.ops.interpolation import interpolate

__all__ = ["FeaturePropagation", "GraphPropagation", "SharedMlp"]


class SharedMlp(nn.Module):
    """Linear, BatchNorm and ReLU, some times over, applied to every row alike.

    Args:
        in_features: channels of a row.
        widths: channels after each step.
    """

    def __init__(self, in_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = (in_features, *widths)
        self.linears = nn.ModuleList(map(nn.Linear, sizes, widths))
        self.norms = nn.ModuleList(map(nn.BatchNorm1d, widths))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C) -> (B, N, C')``; BatchNorm statistics are over all rows of the batch."""
        rows = x.flatten(0, 1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            rows = F.relu(norm(linear(rows)))
        return rows.view(*x.shape[:2], -1)


class FeaturePropagation(nn.Module):
    """Carry features of sparse centers to dense points (PointNet++, Sec. 3.4).

    Three nearest centers by inverse squared distance, beside what is known of the points
    themselves, through a shared MLP.

    Args:
        in_features: channels of the points' own features and of the centers' together.
        widths: channels of the MLP.
    """

    def __init__(self, in_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlp = SharedMlp(in_features, widths)

    def forward(self, points: Tensor, own: Tensor, centers: Tensor, features: Tensor) -> Tensor:
        """Features of the points, ``(B, N, widths[-1])``.

        Args:
            points: ``(B, N, 3)``.
            own: what is known of them, ``(B, N, c)``: their coordinates, or more.
            centers: ``(B, G, 3)``.
            features: of the centers, ``(B, G, C)``.
        """
        carried = interpolate(points, centers, features)
        return self.mlp(torch.cat([own, carried], dim=-1))


class GraphPropagation(nn.Module):
    """Carries features from a coarse to a fine level over nearest neighbours.

    Args:
        dim: channels of both levels.
        num_neighbors: of every fine point, in the coarse and then in the fine level.
    """

    def __init__(self, dim: int, num_neighbors: int = 4) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        self.across = EdgeConv(dim, 512)
        self.within = EdgeConv(512, dim)

    def forward(self, fine: Tensor, own: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
        """``(B, F, 3), (B, F, C), (B, c, 3), (B, c, C) -> (B, F, C)``."""
        x = self.across(own, features, self._nearest(fine, coarse))
        return self.within(x, x, self._nearest(fine, fine))

    def _nearest(self, query: Tensor, points: Tensor) -> Tensor:
        return knn(query, points, min(self.num_neighbors, points.shape[1]))[1]
