"""Layers shared by the backbones: attention, MLP, block, split products, graph layers."""

from collections.abc import Sized

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, DataError
from pointpeft.models.trunk import Geometry
from pointpeft.ops import knn, max_pool
from pointpeft.ops.gathering import select

__all__ = [
    "DGCNN",
    "NORM_GROUPS",
    "Attention",
    "Block",
    "DropPath",
    "EdgeConv",
    "Mlp",
    "attention",
    "check_batch",
    "drop_path",
    "drop_path_rates",
    "edge_linear",
    "is_plain",
    "position_mlp",
    "split_linear",
    "split_mlp",
]

_NARROW = 8
"""Channels of a head from which on PyTorch's attention is worth its passes on a CPU."""


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Zero whole samples of ``x (B, ...)`` with probability ``rate`` and rescale the kept ones."""
    keep = 1.0 - rate
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    return x / (keep / mask)  # by infinity where a sample is zeroed: one pass over x, not two


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic-depth rate of each of ``depth`` blocks: rising linearly from 0 to ``rate``."""
    return torch.linspace(0, rate, depth).tolist()


def position_mlp(dim: int, hidden_dim: int = 128) -> nn.Sequential:
    """Embedding of center coordinates, ``(..., 3) -> (..., dim)`` (Point-MAE, Sec. 3.1)."""
    return nn.Sequential(nn.Linear(3, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))


def check_batch(layers: nn.Module, clouds: Sized) -> None:
    """Refuse to train BatchNorm among ``layers``, which see one row per cloud, on a single cloud.

    Raises:
        DataError: there is one cloud, which has no variance.
    """
    trained = any(isinstance(m, nn.BatchNorm1d) and m.training for m in layers.modules())
    if trained and len(clouds) == 1:  # in this order: an exported graph has no length
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


def attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """``softmax(scale q k^T + bias) v`` of queries, keys and values ``(B, heads, T, D)``.

    PyTorch's own, but on a CPU for narrow heads, where it takes 1.7 times as long as these
    products, and for training in half precision, where it takes four to nine times as long.

    Args:
        bias: broadcastable to ``(B, heads, T, T)``.
        scale: None: ``D ** -0.5``.
    """
    halves = q.dtype.itemsize < 4 and torch.is_grad_enabled() and q.requires_grad
    if not (q.is_cpu and (halves or q.shape[-1] < _NARROW)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    scores = q * (scale or q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores if bias is None else scores + bias
    exact = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(dim=-1, dtype=exact).to(v.dtype) @ v


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
        x = attention(q, k, v, bias)
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
        x = self.attend(x, geometry)
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor, geometry: Geometry) -> Tensor:
        """The first half, ``(B, T, C) -> (B, T, C)``: what tokens are before the MLP."""
        return x + self.drop_path(self.attn(self.norm1(x), geometry.attention_bias))


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes what its weights say, so that they may be used without calling it.

    Not plain are a layer with a hook, and another module in the place of ``nn.Linear`` or
    ``nn.Sequential``, such as one with a low-rank adapter: these must be called.
    """
    if type(layer) not in (nn.Linear, nn.Sequential) or "forward" in layer.__dict__:
        return False
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return not any(hooks)  # hooks for all modules do not count: FLOP counters set some


def split_linear(layer: nn.Module, *parts: Tensor) -> Tensor:
    """``layer(torch.cat(parts, dim=-1))`` of parts that are broadcast against each other.

    A plain layer multiplies every part before it is broadcast: what is common to all points of a
    patch or a cloud is multiplied once, not once per point.

    Args:
        layer: linear, its input channels those of all parts.
        parts: ``(..., c)``, with leading axes of equal number, each of equal size or 1.
    """
    if not is_plain(layer):
        return layer(_concatenate(parts))
    weights = layer.weight.split([part.shape[-1] for part in parts], dim=1)  # type: ignore[operator]
    x = F.linear(parts[0], weights[0], layer.bias)  # type: ignore[arg-type]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        y = F.linear(part, weight)
        # In place where it fits: these are the largest arrays of a forward pass.
        x = y.add_(x) if y.shape == torch.broadcast_shapes(x.shape, y.shape) else x + y
    return x


def split_mlp(mlp: nn.Module, *parts: Tensor) -> Tensor:
    """``mlp(torch.cat(parts, dim=-1))`` as rows ``(R, C)``, see :func:`split_linear`.

    Args:
        mlp: a sequence of layers on rows, of which the first is linear.
        parts: ``(..., c)``.
    """
    if not is_plain(mlp):
        return mlp(_concatenate(parts).flatten(0, -2))
    first, rest = mlp[0], mlp[1:]  # type: ignore[index]
    return rest(split_linear(first, *parts).flatten(0, -2))


def _concatenate(parts: tuple[Tensor, ...]) -> Tensor:
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*leading, -1) for part in parts], dim=-1)


NORM_GROUPS = 4
"""Of every GroupNorm; the channels must be a multiple of it."""

_SLOPE = 0.2


class EdgeConv(nn.Module):
    """Edge convolution (DGCNN, Wang et al. 2019, Eq. 8) with GroupNorm, and a maximum.

    The edge from query q to neighbour k has the feature ``[f_k - f_q, f_q]``; a shared linear
    layer, GroupNorm over all edges of a cloud and a LeakyReLU follow, then the maximum over k.

    Args:
        in_features: channels c of a point.
        out_features: channels of the result.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * in_features, out_features, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, out_features)

    def forward(self, queries: Tensor, sources: Tensor, neighbours: Tensor) -> Tensor:
        """``(B, Q, c), (B, S, c)`` and places in the sources ``(B, Q, k)`` -> ``(B, Q, C)``."""
        edges = edge_linear(self.linear, queries, sources, neighbours)  # (B, Q, k, C)
        edges = self.norm(edges.permute(0, 3, 1, 2))
        return max_pool(F.leaky_relu(edges, _SLOPE), dim=-1).transpose(1, 2)


def edge_linear(layer: nn.Linear, queries: Tensor, sources: Tensor, neighbours: Tensor) -> Tensor:
    """``W [f_k - f_q, f_q]`` of the edges from every query q to its neighbours k, ``(B, Q, k, C)``.

    A plain layer multiplies ``W1 f_k + (W2 - W1) f_q``: once for a point, not for each edge.

    Args:
        layer: without bias, ``W = [W1, W2]``.
        queries: ``(B, Q, c)``.
        sources: ``(B, S, c)``.
        neighbours: places in the sources, ``(B, Q, k)``.
    """
    if not is_plain(layer):
        near = select(sources, neighbours)
        own = queries.unsqueeze(2).expand_as(near)
        return layer(torch.cat([near - own, own], dim=-1))
    of_difference, of_query = layer.weight.chunk(2, dim=1)  # W1, W2
    of_sources = select(F.linear(sources, of_difference), neighbours)
    return of_sources + F.linear(queries, of_query - of_difference).unsqueeze(2)


class DGCNN(nn.Module):
    """Mixes the tokens of a cloud over the graph of their centers (Point-BERT, appendix).

    Args:
        in_features: channels of a token.
        out_features: channels of the result.
        num_neighbors: nearest centers of each center, itself included.
    """

    def __init__(self, in_features: int, out_features: int, num_neighbors: int = 4) -> None:
        super().__init__()
        widths = (128, 256, 512, 512, 1024)
        self.num_neighbors = num_neighbors
        self.input = nn.Linear(in_features, widths[0])
        self.edges = nn.ModuleList(map(EdgeConv, widths[:-1], widths[1:]))
        self.output = nn.Linear(sum(widths[1:]), out_features, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, out_features)

    def forward(self, tokens: Tensor, centers: Tensor) -> Tensor:
        """``(B, G, c)`` and ``(B, G, 3)`` -> ``(B, G, C)``."""
        _, neighbours = knn(centers, centers, min(self.num_neighbors, centers.shape[1]))
        x, outputs = self.input(tokens), []
        for edge in self.edges:
            x = edge(x, x, neighbours)
            outputs.append(x)
        x = self.norm(self.output(torch.cat(outputs, dim=-1)).transpose(1, 2))
        return F.leaky_relu(x, _SLOPE).transpose(1, 2)
