"""Part segmentation on the hierarchical encoder of Point-M2AE."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError
from pointpeft.models.part_layers import CategoryEmbedding, FeaturePropagation
from pointpeft.models.point_m2ae import PointM2AE
from pointpeft.models.split_linear import split_linear
from pointpeft.models.trunk import PLAIN, Method, Tokenized

__all__ = ["PointM2AEPartSegmenter"]

_POINT_WIDTHS = (1536, 1024)  # of what each scale tells about a point


class PointM2AEPartSegmenter(nn.Module):
    """A label for every point, given the category of the shape.

    Args:
        backbone: the encoder; the tokens of all its scales are used.
        num_parts: parts of all categories together, 50 in ShapeNetPart.
        num_categories: categories.
    """

    task = "part_segmentation"

    def __init__(self, backbone: PointM2AE, num_parts: int, num_categories: int = 16) -> None:
        super().__init__()
        if num_parts < 1:
            raise ConfigError(f"num_parts must be at least 1, got {num_parts}")
        backbone.normalize_finer_scales()
        dims = backbone.config.dims
        C = _POINT_WIDTHS[-1] * len(dims)
        self.backbone = backbone
        self.num_parts = num_parts
        self.num_categories = num_categories
        self.category = CategoryEmbedding(num_categories)
        self.propagations = nn.ModuleList(FeaturePropagation(3 + c, _POINT_WIDTHS) for c in dims)
        self.dropout = nn.Dropout(0.5)
        self.fc1, self.norm1 = nn.Linear(2 * C + 64, 1024), nn.BatchNorm1d(1024)
        self.fc2, self.norm2 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc3, self.norm3 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc4 = nn.Linear(256, num_parts)

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
        backbone = self.backbone
        outputs = backbone.run_scales(points, method, context)
        points = outputs[0].geometry.points
        scales = zip(self.propagations, backbone.norms, outputs, strict=True)
        carried = [
            carry(points, points, stream.geometry.centers, norm(stream.patches))
            for carry, norm, stream in scales
        ]
        own = torch.cat(carried, dim=-1)  # (B, N, C)
        cloud = torch.cat([own.amax(dim=1) + own.mean(dim=1), self.category(category)], dim=-1)
        return self._head(cloud, own)

    def _head(self, cloud: Tensor, own: Tensor) -> Tensor:
        """Logits from features of the cloud ``(B, C)`` and of the points ``(B, N, c)``."""
        B, N, _ = own.shape
        # The released order of input channels is [cloud, own].
        x = split_linear(self.fc1, cloud.unsqueeze(1), own).flatten(0, 1)
        x = self.dropout(F.relu(self.norm1(x)))
        x = F.relu(self.norm2(self.fc2(x)))
        x = F.relu(self.norm3(self.fc3(x)))
        return self.fc4(x).view(B, N, -1)
