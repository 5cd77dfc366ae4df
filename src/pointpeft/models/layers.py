"""Transformer layers shared by every backbone: attention, MLP, stochastic depth, block."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, DataError
from pointpeft.models.geometry import Geometry

__all__ = [
    "Attention",
    "Block",
    "DropPath",
    "Mlp",
    "check_batch",
    "drop_path",
    "drop_path_rates",
    "position_mlp",
]


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Zero whole samples of ``x (B, ...)`` with probability ``rate`` and rescale the kept ones."""
    keep = 1.0 - rate
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    return x * mask / keep


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic-depth rate of each of ``depth`` blocks: rising linearly from 0 to ``rate``."""
    return torch.linspace(0, rate, depth).tolist()


def position_mlp(dim: int, hidden_dim: int = 128) -> nn.Sequential:
    """Embedding of center coordinates, ``(..., 3) -> (..., dim)`` (Point-MAE, Sec. 3.1)."""
    return nn.Sequential(nn.Linear(3, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))


def check_batch(layers: nn.Module, clouds: int) -> None:
    """Refuse to train BatchNorm among ``layers``, which see one row per cloud, on a single cloud.

    Raises:
        DataError: there is one cloud, which has no variance.
    """
    if clouds == 1 and any(isinstance(m, nn.BatchNorm1d) and m.training for m in layers.modules()):
        raise DataError(
            "a batch has 1 cloud, but training needs 2 or more, since BatchNorm takes the variance "
            "over the batch: use a batch_size of 2 or more and leave a last batch of 1 out "
            "(DataLoader: drop_last=True); to predict, call model.eval() first"
        )


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016) on the first axis; the identity in eval mode."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ...) -> (B, ...)``."""
        return drop_path(x, self.rate) if self.training and self.rate > 0 else x

    def extra_repr(self) -> str:
        """Show the rate when the module is printed."""
        return f"rate={self.rate:.3f}"


class Attention(nn.Module):
    """Multi-head self-attention; ``qkv`` has no bias, as in every published point transformer."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"dim must be a multiple of num_heads, got {dim} and {num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(B, T, C) -> (B, T, C)``; ``bias (B, 1, T, T)`` is added to the attention scores."""
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.num_heads, C // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C / heads)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(B, T, C))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block, the unit that tuning methods act on.

    The block interface is ``block(x, geometry) -> x`` plus the sub-modules ``norm1``, ``attn``,
    ``norm2``, ``mlp`` and ``drop_path``. Of the geometry, a plain block looks at the attention
    bias alone.
    """

    def __init__(
        self, dim: int, num_heads: int, drop_path: float = 0.0, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """``(B, T, C) -> (B, T, C)``."""
        x = x + self.drop_path(self.attn(self.norm1(x), geometry.attention_bias))
        return x + self.drop_path(self.mlp(self.norm2(x)))
