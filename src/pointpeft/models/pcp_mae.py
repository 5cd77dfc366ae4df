"""The encoder of PCP-MAE: learning to predict centers for point masked autoencoders.

Zhang et al., NeurIPS 2024, arXiv 2408.08753. It is Point-MAE's, with another embedding of the
centers; what is new is pre-training, see ``pcp_mae_pretraining.py``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.models.point_mae import PointMAE, PointMAEConfig
from pointpeft.ops._numerics import working

__all__ = ["PCPMAE", "CodeEmbedding", "PCPMAEConfig", "position_code"]

_WAVES = 6  # a sine and a cosine of each coordinate


@dataclass(frozen=True)
class PCPMAEConfig(PointMAEConfig):
    """Sizes of the encoder; the defaults are the published ones for 1,024 points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % _WAVES:
            raise ConfigError(
                f"dim={self.dim} must be a multiple of {_WAVES}: the code of a center has a sine "
                "and a cosine of each coordinate"
            )


def position_code(centers: Tensor, dim: int) -> Tensor:
    """Sines and cosines of coordinates in K = C / 6 frequencies.

    A block of K channels each for the sine and the cosine of x, then of y and of z; frequencies
    fall from 1 to ``10000 ** (1 / K - 1)``. Coordinates are taken as they are.

    Args:
        centers: ``(..., 3)``.
        dim: channels C, a multiple of 6.

    Returns:
        ``(..., C)``, in [-1, 1], in float32 at least.
    """
    centers, K = working(centers), dim // _WAVES
    places = torch.arange(K, dtype=centers.dtype, device=centers.device)
    angles = centers.unsqueeze(-1) / 10000 ** (places / K)  # (..., 3, K)
    return torch.stack([angles.sin(), angles.cos()], dim=-2).flatten(-3)


class CodeEmbedding(nn.Sequential):
    """Embedding of centers by their codes.

    Args:
        dim: channels C, a multiple of 6.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.dim = dim

    def forward(self, centers: Tensor) -> Tensor:
        """``(..., 3) -> (..., C)``."""
        return self.of_code(position_code(centers, self.dim))

    def of_code(self, code: Tensor) -> Tensor:
        """The same of codes that are there already, ``(..., C) -> (..., C)``."""
        return super().forward(code)


class PCPMAE(PointMAE):
    """Point-MAE's encoder, which embeds centers by their codes."""

    pos_embed: CodeEmbedding
    position_embedding = CodeEmbedding
