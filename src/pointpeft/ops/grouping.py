"""Patches: the nearest neighbours of every center, relative to it."""

from torch import Tensor

from pointpeft.ops._checks import check_cloud, check_count, check_same_batch
from pointpeft.ops.gathering import select
from pointpeft.ops.nearest import knn

__all__ = ["group_points"]


def group_points(points: Tensor, centers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Form around each center the patch of its ``k`` nearest points, relative to the center.

    Differentiable in ``points`` and ``centers``; the choice of neighbours is constant. Patches are
    not scaled.

    Args:
        points: ``(B, N, 3)`` coordinates.
        centers: ``(B, G, 3)`` coordinates in the same frame, usually some of the points.
        k: Points per patch, between 1 and ``N``.

    Returns:
        Neighbourhoods ``(B, G, k, 3)``, nearest first, and the int64 indices ``(B, G, k)`` of
        their points.

    Raises:
        ValueError: If a cloud is not a finite, non-empty ``(B, N, 3)`` float tensor, the batch
            sizes differ, or ``k`` is not between 1 and ``N``.

    Source: "Point-MAE" (Pang et al., ECCV 2022), section 3.1; "Point-BERT" (Yu et al., CVPR 2022).
    """
    check_cloud(points, "points")
    check_cloud(centers, "centers")
    check_same_batch(points, "points", centers, "centers")
    check_count(k, "k", points.shape[1], "the number of points")
    _, indices = knn(centers, points, k)
    return select(points, indices) - centers.unsqueeze(2), indices
