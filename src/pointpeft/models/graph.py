"""Dynamic graph CNN layers: edge features of nearest neighbours."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.models.split_linear import is_plain
from pointpeft.ops import knn
from pointpeft.ops.gathering import select

__all__ = ["DGCNN", "NORM_GROUPS", "EdgeConv"]

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
        """``(B, Q, c), (B, S, c)`` and places in the sources ``(B, Q, k)`` -> ``(B, Q, C)``.

        ``W [f_k - f_q, f_q] = W1 f_k + (W2 - W1) f_q``: multiplied per point, not per edge.
        """
        edges = self._linear(queries, sources, neighbours)  # (B, Q, k, C)
        edges = self.norm(edges.permute(0, 3, 1, 2))
        return F.leaky_relu(edges, _SLOPE).amax(dim=-1).transpose(1, 2)

    def _linear(self, queries: Tensor, sources: Tensor, neighbours: Tensor) -> Tensor:
        if not is_plain(self.linear):
            near = select(sources, neighbours)
            own = queries.unsqueeze(2).expand_as(near)
            return self.linear(torch.cat([near - own, own], dim=-1))
        of_difference, of_query = self.linear.weight.chunk(2, dim=1)  # W1, W2
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
