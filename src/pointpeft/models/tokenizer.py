"""From a cloud to patch tokens: grouping and the mini-PointNet."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, DataError
from pointpeft.models.layers import split_mlp
from pointpeft.ops import farthest_point_sample, gather_points, group_points, max_pool

__all__ = ["PatchEmbed", "PatchTokenizer", "Patches", "check_widths", "group_patches"]


class Patches(NamedTuple):
    """Point patches of a batch of clouds.

    Attributes:
        neighborhoods: ``(B, G, S, 3)``, coordinates relative to the patch center, nearest first.
        centers: ``(B, G, 3)``, in farthest-point order.
    """

    neighborhoods: Tensor
    centers: Tensor


def group_patches(
    points: Tensor, num_groups: int, group_size: int, skip_near_origin: bool = False
) -> Patches:
    """Patches of the nearest points around farthest points (Point-BERT, Sec. 3.1).

    Args:
        points: ``(B, N, 3)``, at least as many points as groups and as a group has.
        num_groups: patches per cloud.
        group_size: points per patch.
        skip_near_origin: see :func:`pointpeft.ops.farthest_point_sample`.

    Raises:
        DataError: too few points.
    """
    has_points = isinstance(points, Tensor) and points.ndim == 3  # else sampling says what is wrong
    if has_points and points.shape[1] < max(num_groups, group_size):
        raise DataError(
            f"points has {points.shape[1]} points per cloud, but the tokenizer needs at least "
            f"{max(num_groups, group_size)} to form {num_groups} groups of {group_size}; pass "
            "larger clouds (data.num_points) or a model with fewer groups (backbone.num_groups)"
        )
    indices = farthest_point_sample(points, num_groups, skip_near_origin)
    centers = gather_points(points, indices)
    neighborhoods, _ = group_points(points, centers, group_size)
    return Patches(neighborhoods, centers)


def check_widths(widths: object) -> None:
    """Refuse hidden channels of a mini-PointNet that are not three positive integers.

    Raises:
        ConfigError: they are not; the setting is called ``patch_widths``.
    """
    whole = isinstance(widths, tuple) and all(type(w) is int and w > 0 for w in widths)
    if not whole or len(widths) != 3:  # type: ignore[arg-type]
        raise ConfigError(f"patch_widths must be three positive integers, got {widths!r}")


class PatchEmbed(nn.Module):
    """Mini-PointNet: a permutation-invariant embedding of every patch (Point-BERT, Sec. 3.1).

    A shared MLP lifts each point, its maximum over the patch is concatenated in front of every
    point's feature, a second shared MLP follows, and the maximum over the patch is the token.

    Args:
        dim: channels C of a token.
        widths: hidden channels; published (128, 256, 512).
        in_features: channels c of a member of a patch: coordinates, or features.
    """

    def __init__(
        self, dim: int, widths: tuple[int, int, int] = (128, 256, 512), in_features: int = 3
    ) -> None:
        super().__init__()
        first, local, second = widths
        self.first_conv = nn.Sequential(
            nn.Linear(in_features, first),
            nn.BatchNorm1d(first),
            nn.ReLU(inplace=True),
            nn.Linear(first, local),
        )
        self.second_conv = nn.Sequential(
            nn.Linear(2 * local, second),
            nn.BatchNorm1d(second),
            nn.ReLU(inplace=True),
            nn.Linear(second, dim),
        )

    def forward(self, neighborhoods: Tensor) -> Tensor:
        """``(..., S, c) -> (..., C)``.

        Raises:
            DataError: the points have another dtype than the weights.
        """
        self._check_dtype(neighborhoods)
        *batch, S, c = neighborhoods.shape
        local = self.first_conv(neighborhoods.reshape(-1, c)).unflatten(0, (-1, S))
        pooled = max_pool(local, dim=1, keepdim=True)  # (patches, 1, local)
        # The pooled half is the same for all S points of a patch, so its product is taken once per
        # patch: a quarter of the embedding's multiply-adds is saved at the widths of the papers.
        x = split_mlp(self.second_conv, pooled, local)
        return max_pool(x.view(-1, S, x.shape[-1]), dim=1).view(*batch, -1)

    def _check_dtype(self, points: Tensor) -> None:
        wanted = next(self.parameters()).dtype
        if points.dtype != wanted and not torch.is_autocast_enabled(points.device.type):
            raise DataError(
                f"points must be {wanted} as the weights are, got {points.dtype}: call "
                f"points.to({wanted})"
            )


class PatchTokenizer(nn.Module):
    """Group a cloud into patches around farthest points and embed each of them.

    Args:
        num_groups: patches G per cloud.
        group_size: points S per patch.
        dim: channels C of a token.
        widths: hidden channels of the mini-PointNet.
        skip_near_origin: sampling rule of the papers' CUDA sampler, see
            :func:`pointpeft.ops.farthest_point_sample`.
        embed_dim: channels of the mini-PointNet where a projection to ``dim`` follows
            (Point-BERT); None: it yields ``dim`` itself.
    """

    def __init__(
        self,
        num_groups: int,
        group_size: int,
        dim: int,
        widths: tuple[int, int, int] = (128, 256, 512),
        skip_near_origin: bool = False,
        embed_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.group_size = group_size
        self.skip_near_origin = skip_near_origin
        self.embed = PatchEmbed(embed_dim or dim, widths)
        self.project = nn.Linear(embed_dim, dim) if embed_dim else nn.Identity()

    def group(self, points: Tensor) -> Patches:
        """Patches of ``points (B, N, 3)``; N must be at least G and S."""
        return group_patches(points, self.num_groups, self.group_size, self.skip_near_origin)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, N, 3) -> tokens (B, G, C), centers (B, G, 3)``."""
        patches = self.group(points)
        return self.project(self.embed(patches.neighborhoods)), patches.centers
