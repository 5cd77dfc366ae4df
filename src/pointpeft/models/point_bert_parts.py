"""Part segmentation on Point-BERT (appendix): up-sampling over graphs, level by level."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError
from pointpeft.models.graph import NORM_GROUPS, EdgeConv
from pointpeft.models.part_layers import FeaturePropagation, one_hot_category
from pointpeft.models.point_mae import PointMAE, init_token
from pointpeft.models.point_mae_parts import tapped_blocks
from pointpeft.models.trunk import PLAIN, Method, Tokenized
from pointpeft.ops import farthest_point_sample, gather_points, knn

__all__ = ["GraphPropagation", "PointBERTPartSegmenter"]

# Points, at most, of the two levels between cloud and centers; the fine one begins with the middle.
_LEVELS = (512, 256)
_WIDE = 1536


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


class PointBERTPartSegmenter(nn.Module):
    """A label for every point, given the category of the shape.

    Args:
        backbone: the encoder; it sees a class token, which is dropped before up-sampling.
        num_parts: parts of all categories together, 50 in ShapeNetPart.
        num_categories: categories.
    """

    task = "part_segmentation"

    def __init__(self, backbone: PointMAE, num_parts: int, num_categories: int = 16) -> None:
        super().__init__()
        if num_parts < 1:
            raise ConfigError(f"num_parts must be at least 1, got {num_parts}")
        C = backbone.num_features
        if C % NORM_GROUPS:
            raise ConfigError(
                f"part segmentation needs a dim that is a multiple of {NORM_GROUPS}, got {C}"
            )
        self.backbone = backbone
        self.num_parts = num_parts
        self.taps = tapped_blocks(len(backbone.blocks))
        self.cls_token = nn.Parameter(torch.empty(1, 1, C))
        self.cls_pos = nn.Parameter(torch.empty(1, 1, C))
        self.num_categories = num_categories
        self.propagations = nn.ModuleList(
            FeaturePropagation(own + C, (_WIDE, C)) for own in (3 + num_categories, 3, 3)
        )
        self.graphs = nn.ModuleList(GraphPropagation(C) for _ in _LEVELS)
        self.fc1, self.norm1 = nn.Linear(C, 128), nn.BatchNorm1d(128)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(128, num_parts)
        init_token(self.cls_token)
        init_token(self.cls_pos)

    def forward(
        self,
        points: Tensor | Tokenized,
        category: Tensor,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Part logits ``(B, N, parts)``.

        Args:
            points: ``(B, N, 3)``, or what ``backbone.tokenize`` made of them.
            category: numbers of the shapes' categories, ``(B,)``.
            method: acts on the encoder.
            context: handed to the blocks.
        """
        points, centers, (first, second, last) = self._encode(points, method, context)
        fine = self._sample(points, _LEVELS[0])
        middle = fine[:, : _LEVELS[1]]
        _, propagate_fine, propagate_middle = self.propagations
        to_fine, to_middle = self.graphs
        x_middle = propagate_middle(middle, middle, centers, second)
        x_fine = propagate_fine(fine, fine, centers, first)
        x_middle = to_middle(middle, x_middle, centers, last)
        x_fine = to_fine(fine, x_fine, middle, x_middle)

        hot = one_hot_category(category, self.num_categories, points.dtype)
        own = torch.cat([hot.unsqueeze(1).expand(-1, points.shape[1], -1), points], dim=-1)
        x = self.propagations[0](points, own, fine, x_fine)
        rows = self.dropout(F.relu(self.norm1(self.fc1(x.flatten(0, 1)))))
        return self.fc2(rows).view(*points.shape[:2], -1)

    def _encode(
        self, points: Tensor | Tokenized, method: Method, context: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Points, centers, and normalised patch tokens ``(B, G, C)`` after each tapped block."""
        backbone = self.backbone
        stream = backbone.embed(points, context).insert(self.cls_token, self.cls_pos)
        outputs = backbone.run(method.embed(self, stream), method)
        tapped = [backbone.norm(outputs[t].patches) for t in self.taps]
        return stream.geometry.points, stream.geometry.centers, tapped

    def _sample(self, points: Tensor, size: int) -> Tensor:
        skip = self.backbone.config.skip_near_origin
        size = min(size, points.shape[1])
        return gather_points(points, farthest_point_sample(points, size, skip))
