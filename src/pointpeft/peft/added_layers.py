"""Small trainable layers that tuning methods add to blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.ops.gathering import select_rows

__all__ = ["Bottleneck", "LocalAttention", "quick_gelu"]


def quick_gelu(x: Tensor) -> Tensor:
    """Sigmoid approximation of GELU, ``x * sigmoid(1.702 x)``."""
    return x * torch.sigmoid(1.702 * x)


class Bottleneck(nn.Module):
    """Down-projection, QuickGELU, up-projection.

    Args:
        dim: channels C in and out.
        width: channels between.
        residual: add the input to the output.
        dropout: rate between the projections.
        init_scale: of the up-projection's initial weights; a small one lets a model with the
            layer begin close to the function that it was without.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        residual: bool,
        dropout: float = 0.1,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.ln1 = nn.Linear(dim, width)
        self.ln2 = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.ln1, self.ln2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)
        with torch.no_grad():
            self.ln2.weight.mul_(init_scale)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        out = self.ln2(self.dropout(quick_gelu(self.ln1(x))))
        return x + out if self.residual else out


class LocalAttention(nn.Module):
    """Narrow attention inside local groups of rows (Point-PEFT, Sec. 3.3).

    Args:
        dim: channels C of a row.
        width: channels of all heads together.
        num_heads: attention heads.
    """

    def __init__(self, dim: int, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got {width} and {num_heads}")
        self.num_heads = num_heads
        self.scale = width**-0.5  # of the whole width, not of a head, as in the papers
        self.qkv = nn.Linear(dim, 3 * width, bias=False)
        self.proj = nn.Linear(width, dim)

    def forward(self, rows: Tensor, groups: Tensor) -> Tensor:
        """Attend within each group: ``rows (R, C)``, ``groups (L, s)`` row numbers -> (L, s, C).

        The projections act on rows alone, so they run before the gather, on R instead of L * s.
        """
        L, s = groups.shape
        qkv = select_rows(self.qkv(rows), groups).view(L, s, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (L, heads, s, width / heads)
        x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(L, s, -1))
