"""Which patches a masked autoencoder hides."""

from typing import Literal

import torch
from torch import Tensor

from pointpeft.errors import DataError

__all__ = [
    "MaskType",
    "block_mask",
    "count_hidden",
    "order_visible_first",
    "patch_mask",
    "random_mask",
    "salience_mask",
]

MaskType = Literal["random", "block"]
"""Which patches are hidden together: any, or neighbours."""


def patch_mask(centers: Tensor, ratio: float, kind: MaskType) -> Tensor:
    """Hide ``int(ratio * G)`` patches of every cloud.

    Args:
        centers: patch centers ``(B, G, 3)``.
        ratio: share of hidden patches, in [0, 1).
        kind: "random" hides uniformly drawn patches, "block" a patch and its nearest ones.

    Returns:
        Boolean ``(B, G)``, True where a patch is hidden; the same count in each row.

    Source: Point-MAE, Sec. 3.1; block masking as in Point-BERT.
    """
    num_hidden = int(ratio * centers.shape[1])
    return {"random": random_mask, "block": block_mask}[kind](centers, num_hidden)


def random_mask(centers: Tensor, num_hidden: int) -> Tensor:
    """Hide ``num_hidden`` patches drawn uniformly, ``(B, G, 3) -> (B, G)``."""
    B, G, _ = centers.shape
    rank = torch.rand(B, G, device=centers.device).argsort(dim=1).argsort(dim=1)
    return rank < num_hidden


def block_mask(centers: Tensor, num_hidden: int | Tensor) -> Tensor:
    """Hide a random patch and those nearest to it, ``(B, G, 3) -> (B, G)``.

    ``num_hidden`` may differ from cloud to cloud, ``(B, 1)``.
    """
    B, G, _ = centers.shape
    seed = torch.randint(G, (B, 1, 1), device=centers.device).expand(-1, -1, 3)
    distance = (centers - centers.gather(1, seed)).square().sum(-1)
    rank = distance.argsort(dim=1, stable=True).argsort(dim=1)
    return rank < num_hidden


def salience_mask(saliency: Tensor, num_hidden: int) -> Tensor:
    """Hide ``num_hidden`` patches of every cloud, the salient ones least (I2P-MAE, Sec. 3.2).

    Visible patches are drawn one after the other without replacement with probabilities
    ``softmax(saliency)``, by the largest of perturbed scores (Plackett-Luce, Gumbel noise).

    Args:
        saliency: ``(B, G)``.
        num_hidden: of G.

    Returns:
        Boolean ``(B, G)``, True where a patch is hidden.
    """
    noise = -torch.empty_like(saliency).exponential_().log()
    rank = (saliency + noise).argsort(dim=1).argsort(dim=1)
    return rank < num_hidden


def order_visible_first(mask: Tensor) -> Tensor:
    """Places of the visible patches in ascending order, then those of the hidden ones.

    Boolean ``(B, G)``, True = hidden, to int64 ``(B, G)``. Unlike selection by the mask itself it
    has a shape that is known beforehand, so that a GPU need not wait and a compiler not break off.
    """
    return mask.to(torch.uint8).argsort(dim=1, stable=True)


def count_hidden(mask: Tensor) -> int:
    """How many patches of every cloud ``mask (B, G)`` hides.

    Raises:
        DataError: more of one cloud than of another, none, or all.
    """
    counts = mask.sum(dim=1).tolist()
    if len(set(counts)) > 1:
        raise DataError(f"mask must hide as many patches in each cloud, got {counts}")
    if not 0 < counts[0] < mask.shape[1]:
        raise DataError(
            f"mask hides {counts[0]} of {mask.shape[1]} patches; hide some, and leave some visible"
        )
    return int(counts[0])
