"""Instance contrast: an objective that may stand beside reconstruction in pre-training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.ops._numerics import full_precision, working

__all__ = ["InstanceContrast"]


class InstanceContrast(nn.Module):
    """Recognises, among all clouds of a batch, the other view of a cloud.

    The NT-Xent loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, Eq. 1) on a projection of one
    feature per view. Beside masked reconstruction it makes features linearly separable much
    sooner, as ReCon found (Qi et al. 2023, arXiv 2302.02318).

    Args:
        dim: channels C of a feature.
        temperature: divides the cosine similarities.
        width: channels of the projection.
    """

    def __init__(self, dim: int, temperature: float = 0.1, width: int = 128) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection = nn.Sequential(
            nn.Linear(dim, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Loss, a scalar, of ``features (2 B, C)``: rows i and i + B belong to one cloud."""
        projected = self.projection(features)
        partner = torch.arange(len(features), device=features.device).roll(len(features) // 2)
        with full_precision(features):
            z = F.normalize(working(projected), dim=1)
            similarity = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
            return F.cross_entropy(similarity, partner)
