"""Scales of a hierarchical encoder: nested groups, what a mask leaves of them, attention biases.

Scale 0 is the finest and groups the points;
every further scale groups the centers of the scale before it (Point-M2AE, "multi-scale masking").
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.errors import DataError
from pointpeft.models.masking import order_visible_first
from pointpeft.models.tokenizer import PatchEmbed
from pointpeft.ops import farthest_point_sample, gather_points, group_points, squared_distance
from pointpeft.ops.gathering import select

__all__ = [
    "BLOCKED",
    "Level",
    "Packing",
    "ScaleTokenizer",
    "group_scales",
    "hide_finer",
    "hide_scales",
    "local_bias",
    "pack_visible",
    "padding_bias",
    "with_coarser",
]

BLOCKED = -1e5
"""Added to an attention score that must not count; finite, so that no row becomes NaN."""


class Level(NamedTuple):
    """The groups of one scale; its parents are the points or the centers of the finer scale.

    Attributes:
        neighborhoods: ``(B, G, K, 3)``, coordinates of members relative to the center, nearest
            first.
        centers: ``(B, G, 3)``, in farthest-point order.
        indices: int64 ``(B, G, K)``, places of the members among the parents of their cloud.
    """

    neighborhoods: Tensor
    centers: Tensor
    indices: Tensor


def group_scales(
    points: Tensor,
    num_groups: Sequence[int],
    group_sizes: Sequence[int],
    skip_near_origin: bool = False,
) -> list[Level]:
    """Nested groups of ``points (B, N, 3)``, finest scale first.

    The farthest points among points that stand in farthest-point order are the first of them, so
    one sampling run serves all scales.

    Args:
        points: at least as many as groups and members of a group at scale 0.
        num_groups: G of every scale, not rising.
        group_sizes: K of every scale.
        skip_near_origin: see :func:`pointpeft.ops.farthest_point_sample`.

    Raises:
        DataError: too few points.
    """
    has_points = isinstance(points, Tensor) and points.ndim == 3  # else sampling says what is wrong
    if has_points and points.shape[1] < max(num_groups[0], group_sizes[0]):
        raise DataError(
            f"points has {points.shape[1]} points per cloud, but the finest scale needs at least "
            f"{max(num_groups[0], group_sizes[0])} to form {num_groups[0]} groups of "
            f"{group_sizes[0]}; pass larger clouds (data.num_points) or a model with fewer groups"
        )
    chosen = farthest_point_sample(points, num_groups[0], skip_near_origin)
    centers = gather_points(points, chosen)
    neighborhoods, indices = group_points(points, centers, group_sizes[0])
    finest = Level(neighborhoods, centers, indices)
    return with_coarser(finest, num_groups[1:], group_sizes[1:])


def with_coarser(
    finest: Level, num_groups: Sequence[int], group_sizes: Sequence[int]
) -> list[Level]:
    """A level, and the groups of its centers at every coarser scale; sizes are those of these."""
    levels = [finest]
    for G, K in zip(num_groups, group_sizes, strict=True):
        parents = levels[-1].centers
        centers = parents[:, :G]
        neighborhoods, indices = group_points(parents, centers, K)
        levels.append(Level(neighborhoods, centers, indices))
    return levels


class ScaleTokenizer(nn.Module):
    """Embeds the groups of one scale by a mini-PointNet.

    Args:
        num_groups: groups G per cloud.
        group_size: members K of a group.
        in_features: channels of a member: 3 of a point, else those of a token of the finer scale.
        dim: channels C of a token.
        widths: hidden channels of the mini-PointNet.
    """

    def __init__(
        self,
        num_groups: int,
        group_size: int,
        in_features: int,
        dim: int,
        widths: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.group_size = group_size
        self.embed = PatchEmbed(dim, widths, in_features)

    def forward(self, level: Level, finer: Tensor | None = None) -> Tensor:
        """Tokens ``(B, G, C)`` from coordinates, or from tokens of the finer scale ``(B, g, c)``.

        Tokens carry no relative coordinates.
        """
        if finer is None:
            return self.embed(level.neighborhoods)
        return self.embed(select(finer, level.indices))


def hide_finer(hidden: Tensor, indices: Tensor, num_finer: int) -> Tensor:
    """Carry a mask to the finer scale: hidden there is what no visible group contains.

    Args:
        hidden: boolean ``(B, G)``, True where a group of the coarser scale is hidden.
        indices: members of these groups, ``(B, G, K)``.
        num_finer: tokens per cloud of the finer scale.

    Returns:
        Boolean ``(B, num_finer)``.
    """
    seen = (~hidden).to(torch.int32).unsqueeze(-1).expand_as(indices).flatten(1)
    times_seen = seen.new_zeros(len(hidden), num_finer)
    return times_seen.scatter_add(1, indices.flatten(1), seen) == 0


def hide_scales(levels: Sequence[Level], hidden: Tensor) -> list[Tensor]:
    """The masks of all scales, finest first, from that of the coarsest ("multi-scale masking").

    Args:
        levels: the groups, finest scale first.
        hidden: boolean ``(B, G)`` of the coarsest scale, True = hidden.
    """
    masks = [hidden]
    for finer, level in zip(reversed(levels[:-1]), reversed(levels[1:]), strict=True):
        masks.append(hide_finer(masks[-1], level.indices, finer.centers.shape[1]))
    return masks[::-1]


def local_bias(centers: Tensor, radius: float) -> Tensor | None:
    """Attention to centers nearer than ``radius`` only ("local spatial self-attention").

    Args:
        centers: ``(B, T, 3)``.
        radius: in the unit of the centers; 0 or less: no limit.

    Returns:
        ``(B, 1, T, T)`` to add to attention scores, or None.
    """
    return _bias(_beyond(centers, radius), centers.dtype) if radius > 0 else None


class Packing(NamedTuple):
    """How visible tokens, of which clouds have different numbers, stand in one tensor.

    Attributes:
        places: int64 ``(B, L)``, places of the visible tokens in ascending order, L being the
            largest number of them, or G where a compiler wants to know it; then of hidden ones.
        valid: boolean ``(B, L)``, whether a place is that of a visible token; the rest is padding.
    """

    places: Tensor
    valid: Tensor

    def pack(self, tokens: Tensor) -> Tensor:
        """Visible rows of ``(B, G, C)`` at the front, zeros behind: ``(B, L, C)``."""
        rows = tokens.gather(1, self._index(tokens.shape[-1]))
        return rows.masked_fill(~self.valid.unsqueeze(-1), 0.0)

    def unpack(self, packed: Tensor, tokens: Tensor) -> Tensor:
        """``tokens (B, G, C)`` with ``packed (B, L, C)`` in the places of the visible ones."""
        index = self._index(packed.shape[-1])
        rows = torch.where(self.valid.unsqueeze(-1), packed, tokens.gather(1, index))
        return tokens.to(rows.dtype).scatter(1, index, rows)

    def _index(self, channels: int) -> Tensor:
        return self.places.unsqueeze(-1).expand(-1, -1, channels)


def pack_visible(hidden: Tensor) -> Packing:
    """The packing of what ``hidden (B, G)`` leaves visible."""
    counts = (~hidden).sum(dim=1, keepdim=True)
    longest = hidden.shape[1] if torch.compiler.is_compiling() else int(counts.max())
    places = order_visible_first(hidden)[:, :longest]
    return Packing(places, torch.arange(longest, device=hidden.device) < counts)


def padding_bias(valid: Tensor, centers: Tensor, radius: float) -> Tensor:
    """No attention to padding, ``(B, 1, L, L)``.

    Padding attends to the visible tokens, so that no row is blocked as a whole. Visible tokens
    attend to each other however far apart they are.

    Args:
        valid: boolean ``(B, L)``, False for padding.
        centers: of the tokens, ``(B, L, 3)``; their precision is that of the result.
        radius: of the scale's local attention, which has no part in pre-training.
    """
    B, L = valid.shape
    return _bias((~valid).unsqueeze(1).expand(B, L, L), centers.dtype)


def _beyond(centers: Tensor, radius: float) -> Tensor:
    """Which pairs are at least ``radius`` apart, ``(B, T, 3) -> (B, T, T)``."""
    return squared_distance(centers, centers).sqrt() >= radius


def _bias(blocked: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, T, T) -> (B, 1, T, T)``: :data:`BLOCKED` where blocked, else 0."""
    # Half precision cannot hold the number.
    return (blocked.to(torch.promote_types(dtype, torch.float32)) * BLOCKED).unsqueeze(1)
