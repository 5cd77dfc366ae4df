"""Part segmentation on every backbone: from tokens back to a part for every point."""

import abc
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError
from pointpeft.models.layers import NORM_GROUPS, check_batch, split_linear
from pointpeft.models.network import Network
from pointpeft.models.point_m2ae import PointM2AE
from pointpeft.models.point_mae import PointMAE, init_token
from pointpeft.models.propagation import FeaturePropagation, GraphPropagation
from pointpeft.models.trunk import PLAIN, Method, Stream, Tokenized, Trunk
from pointpeft.ops import farthest_point_sample, gather_points

__all__ = [
    "CategoryEmbedding",
    "PartSegmenter",
    "PointBERTPartSegmenter",
    "PointM2AEPartSegmenter",
    "PointMAEPartSegmenter",
    "one_hot_category",
    "tapped_blocks",
]


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
        check_batch(self, category)
        hot = one_hot_category(category, self.num_categories, next(self.parameters()).dtype)
        return F.leaky_relu(self.norm(self.linear(hot)), 0.2)


def one_hot_category(category: Tensor, num_categories: int, dtype: torch.dtype) -> Tensor:
    """Category numbers ``(B,)`` in ``0 .. num_categories - 1`` as ``(B, num_categories)``.

    Other numbers give a row of zeros: looking at values would break a compiled graph, so whoever
    reads the data checks them.
    """
    places = torch.arange(num_categories, device=category.device)
    return (category.unsqueeze(1) == places).to(dtype)


def tapped_blocks(depth: int) -> tuple[int, int, int]:
    """Blocks whose outputs are used: the last of each third, 3, 7 and 11 of twelve.

    Raises:
        ConfigError: fewer than three blocks.
    """
    if depth < 3:
        raise ConfigError(f"part segmentation needs a depth of 3 or more, got {depth}")
    return depth // 3 - 1, 2 * depth // 3 - 1, depth - 1


class PartSegmenter(Network, abc.ABC):
    """A part for every point of shapes whose category is known.

    Args:
        backbone: the encoder.
        num_parts: parts of all categories together, 50 in ShapeNetPart.
        num_categories: categories.

    Attributes:
        taps: places of the blocks whose tokens are looked at.
    """

    task = "part_segmentation"
    taps: tuple[int, ...]

    def __init__(self, backbone: Trunk, num_parts: int, num_categories: int = 16) -> None:
        super().__init__()
        if num_parts < 1:
            raise ConfigError(f"num_parts must be at least 1, got {num_parts}")
        self.backbone = backbone
        self.num_parts, self.num_categories = num_parts, num_categories

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
        return self.decode(self.features(self.run(points, method, context)), category)

    @abc.abstractmethod
    def run(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> list[Stream]:
        """The streams behind the blocks at :attr:`taps`; arguments as for the logits."""

    @abc.abstractmethod
    def features(self, tapped: Sequence[Stream]) -> Tokenized:
        """What is carried to the points: the clouds, centers, and normalised tokens at them.

        Those of coarser scales are in ``known``.

        Args:
            tapped: what :meth:`run` returned.
        """

    @abc.abstractmethod
    def decode(self, features: Tokenized, category: Tensor) -> Tensor:
        """Part logits ``(B, N, parts)`` of :meth:`features`, and of categories ``(B,)``."""


class _OneScaleSegmenter(PartSegmenter):
    """On a backbone of one scale: tokens of three blocks, beside each other."""

    backbone: PointMAE

    def __init__(self, backbone: PointMAE, num_parts: int, num_categories: int) -> None:
        super().__init__(backbone, num_parts, num_categories)
        self.taps = tapped_blocks(len(backbone.blocks))

    def begin(self, stream: Stream) -> Stream:
        """The stream that enters the encoder, ``(B, G, C)``, with a class token if there is one."""
        return stream

    def run(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> list[Stream]:
        """The streams behind three blocks, ``(B, T, C)`` each."""
        stream = self.begin(self.backbone.embed(points, context))
        outputs = self.backbone.run(method.embed(self.backbone, stream), method)
        return [outputs[tap] for tap in self.taps]

    def features(self, tapped: Sequence[Stream]) -> Tokenized:
        """Normalised patch tokens of the blocks, ``(B, G, 3 C)``."""
        tokens = torch.cat([self.backbone.norm(stream.patches) for stream in tapped], dim=-1)
        return Tokenized(tapped[0].geometry.points, tapped[0].geometry.centers, tokens)


class PointMAEPartSegmenter(_OneScaleSegmenter):
    """Point-MAE's: tokens of three blocks are carried to the points; there is no class token."""

    def __init__(self, backbone: PointMAE, num_parts: int, num_categories: int = 16) -> None:
        super().__init__(backbone, num_parts, num_categories)
        C = 3 * backbone.num_features
        self.category = CategoryEmbedding(num_categories)
        self.propagation = FeaturePropagation(3 + C, (1536, 1024))
        self.dropout = nn.Dropout(0.5)
        self.fc1, self.norm1 = nn.Linear(1024 + 2 * C + 64, 512), nn.BatchNorm1d(512)
        self.fc2, self.norm2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, num_parts)

    def decode(self, features: Tokenized, category: Tensor) -> Tensor:
        """Part logits ``(B, N, parts)``."""
        points, x = features.points, features.tokens
        cloud = torch.cat([x.amax(dim=1), x.mean(dim=1), self.category(category)], dim=-1)
        own = self.propagation(points, points, features.centers, x)
        return self._head(own, cloud)

    def _head(self, own: Tensor, cloud: Tensor) -> Tensor:
        """Logits from features of the points ``(B, N, c)`` and of the cloud ``(B, C)``."""
        B, N, _ = own.shape
        # The released order of input channels is [own, cloud].
        x = split_linear(self.fc1, own, cloud.unsqueeze(1)).flatten(0, 1)
        x = self.dropout(F.relu(self.norm1(x)))
        x = F.relu(self.norm2(self.fc2(x)))
        return self.fc3(x).view(B, N, -1)


# Points, at most, of the two levels between cloud and centers; the fine one begins with the middle.
_LEVELS = (512, 256)
_WIDE = 1536


class PointBERTPartSegmenter(_OneScaleSegmenter):
    """Point-BERT's: the encoder sees a class token, which is dropped before up-sampling."""

    def __init__(self, backbone: PointMAE, num_parts: int, num_categories: int = 16) -> None:
        super().__init__(backbone, num_parts, num_categories)
        C = backbone.num_features
        if C % NORM_GROUPS:
            raise ConfigError(
                f"part segmentation needs a dim that is a multiple of {NORM_GROUPS}, got {C}"
            )
        self.cls_token = nn.Parameter(torch.empty(1, 1, C))
        self.cls_pos = nn.Parameter(torch.empty(1, 1, C))
        self.propagations = nn.ModuleList(
            FeaturePropagation(own + C, (_WIDE, C)) for own in (3 + num_categories, 3, 3)
        )
        self.graphs = nn.ModuleList(GraphPropagation(C) for _ in _LEVELS)
        self.fc1, self.norm1 = nn.Linear(C, 128), nn.BatchNorm1d(128)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(128, num_parts)
        init_token(self.cls_token)
        init_token(self.cls_pos)

    def begin(self, stream: Stream) -> Stream:
        """With the class token, ``(B, 1 + G, C)``."""
        return stream.insert(self.cls_token, self.cls_pos)

    def decode(self, features: Tokenized, category: Tensor) -> Tensor:
        """Part logits ``(B, N, parts)``."""
        points, centers = features.points, features.centers
        first, second, last = features.tokens.chunk(len(self.taps), dim=-1)
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

    def _sample(self, points: Tensor, size: int) -> Tensor:
        skip = self.backbone.config.skip_near_origin
        size = min(size, points.shape[1])
        return gather_points(points, farthest_point_sample(points, size, skip))


_POINT_WIDTHS = (1536, 1024)  # of what each scale tells about a point


class PointM2AEPartSegmenter(PartSegmenter):
    """Point-M2AE's: the tokens of all scales are carried to the points."""

    backbone: PointM2AE

    def __init__(self, backbone: PointM2AE, num_parts: int, num_categories: int = 16) -> None:
        super().__init__(backbone, num_parts, num_categories)
        backbone.normalize_finer_scales()
        self.taps = tuple(scale.blocks[-1] for scale in backbone.scales)
        dims = backbone.config.dims
        C = _POINT_WIDTHS[-1] * len(dims)
        self.category = CategoryEmbedding(num_categories)
        self.propagations = nn.ModuleList(FeaturePropagation(3 + c, _POINT_WIDTHS) for c in dims)
        self.dropout = nn.Dropout(0.5)
        self.fc1, self.norm1 = nn.Linear(2 * C + 64, 1024), nn.BatchNorm1d(1024)
        self.fc2, self.norm2 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc3, self.norm3 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc4 = nn.Linear(256, num_parts)

    def run(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> list[Stream]:
        """The streams behind all scales, finest first."""
        return self.backbone.run_scales(points, method, context)

    def features(self, tapped: Sequence[Stream]) -> Tokenized:
        """Tokens of the finest scale; ``known`` has those of coarser ones, with their centers."""
        norms = zip(self.backbone.norms, tapped, strict=True)
        tokens = [norm(stream.patches) for norm, stream in norms]
        centers = [stream.geometry.centers for stream in tapped]
        known = {_tokens(scale): tokens[scale] for scale in range(1, len(tokens))}
        known |= {_centers(scale): centers[scale] for scale in range(1, len(tokens))}
        return Tokenized(tapped[0].geometry.points, centers[0], tokens[0], known=known)

    def decode(self, features: Tokenized, category: Tensor) -> Tensor:
        """Part logits ``(B, N, parts)``."""
        points, known = features.points, features.known
        levels = [(features.centers, features.tokens)]
        levels += [
            (known[_centers(scale)], known[_tokens(scale)])
            for scale in range(1, len(self.propagations))
        ]
        each = zip(self.propagations, levels, strict=True)
        own = torch.cat([carry(points, points, *level) for carry, level in each], dim=-1)
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


def _tokens(scale: int) -> str:
    return f"tokens of scale {scale}"


def _centers(scale: int) -> str:
    return f"centers of scale {scale}"
