"""Layers that the part-segmentation networks share: from tokens back to points."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models.layers import check_batch
from pointpeft.ops.interpolation import interpolate

__all__ = [
    "CategoryEmbedding",
    "FeaturePropagation",
    "SharedMlp",
    "one_hot_category",
]


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


class CategoryEmbedding(nn.Module):
    """Embeds the category that a shape is known to belong to, ``(B,) -> (B, 64)``.

    Args:
        num_categories: categories of the data set; 16 in ShapeNetPart.
        width: channels.
    """

    def __init__(self, num_categories: int, width: int = 64) -> None:
        super().__init__()
        self.num_categories = num_categories
        self.linear = nn.Linear(num_categories, width, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, category: Tensor) -> Tensor:
        """Embedding of category numbers in ``0 .. num_categories - 1``.

        Raises:
            DataError: one category, and the norm is being trained.
        """
        check_batch(self, len(category))
        hot = one_hot_category(category, self.num_categories, next(self.parameters()).dtype)
        return F.leaky_relu(self.norm(self.linear(hot)), 0.2)


def one_hot_category(category: Tensor, num_categories: int, dtype: torch.dtype) -> Tensor:
    """Category numbers ``(B,)`` in ``0 .. num_categories - 1`` as ``(B, num_categories)``.

    Other numbers give a row of zeros: looking at values would break a compiled graph, so whoever
    reads the data checks them.
    """
    places = torch.arange(num_categories, device=category.device)
    return (category.unsqueeze(1) == places).to(dtype)
