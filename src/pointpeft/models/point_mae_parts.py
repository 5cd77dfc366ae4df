"""Part segmentation on the plain transformer of Point-MAE (Sec. 4.2)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError
from pointpeft.models.part_layers import CategoryEmbedding, FeaturePropagation
from pointpeft.models.point_mae import PointMAE
from pointpeft.models.split_linear import split_linear
from pointpeft.models.trunk import PLAIN, Method, Tokenized

__all__ = ["PointMAEPartSegmenter", "tapped_blocks"]


def tapped_blocks(depth: int) -> tuple[int, int, int]:
    """Blocks whose outputs are used: the last of each third, 3, 7 and 11 of twelve.

    Raises:
        ConfigError: fewer than three blocks.
    """
    if depth < 3:
        raise ConfigError(f"part segmentation needs a depth of 3 or more, got {depth}")
    return depth // 3 - 1, 2 * depth // 3 - 1, depth - 1


class PointMAEPartSegmenter(nn.Module):
    """A label for every point, given the category of the shape.

    Args:
        backbone: the encoder; it sees no class token.
        num_parts: parts of all categories together, 50 in ShapeNetPart.
        num_categories: categories.
    """

    task = "part_segmentation"

    def __init__(self, backbone: PointMAE, num_parts: int, num_categories: int = 16) -> None:
        super().__init__()
        if num_parts < 1:
            raise ConfigError(f"num_parts must be at least 1, got {num_parts}")
        C = 3 * backbone.num_features
        self.backbone = backbone
        self.num_parts = num_parts
        self.num_categories = num_categories
        self.taps = tapped_blocks(len(backbone.blocks))
        self.category = CategoryEmbedding(num_categories)
        self.propagation = FeaturePropagation(3 + C, (1536, 1024))
        self.dropout = nn.Dropout(0.5)
        self.fc1, self.norm1 = nn.Linear(1024 + 2 * C + 64, 512), nn.BatchNorm1d(512)
        self.fc2, self.norm2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, num_parts)

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
        stream = self.backbone.embed(points, context)
        points, centers = stream.geometry.points, stream.geometry.centers
        outputs = self.backbone.run(method.embed(self, stream), method)
        x = torch.cat([self.backbone.norm(outputs[tap].patches) for tap in self.taps], dim=-1)
        cloud = torch.cat([x.amax(dim=1), x.mean(dim=1), self.category(category)], dim=-1)
        own = self.propagation(points, points, centers, x)
        return self._head(own, cloud)

    def _head(self, own: Tensor, cloud: Tensor) -> Tensor:
        """Logits from features of the points ``(B, N, c)`` and of the cloud ``(B, C)``."""
        B, N, _ = own.shape
        # The released order of input channels is [own, cloud].
        x = split_linear(self.fc1, own, cloud.unsqueeze(1)).flatten(0, 1)
        x = self.dropout(F.relu(self.norm1(x)))
        x = F.relu(self.norm2(self.fc2(x)))
        return self.fc3(x).view(B, N, -1)
