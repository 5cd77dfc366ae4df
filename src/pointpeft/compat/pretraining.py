"""Pre-training, and the features of pre-trained encoders, as published code computes them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pointpeft.models.hierarchy import BLOCKED, Level, hide_finer
from pointpeft.models.i2p_mae import I2PMAEPretraining
from pointpeft.models.objective import ObjectiveConfig, Pretraining
from pointpeft.models.point_bert_pretraining import PointBERTPretraining
from pointpeft.models.point_m2ae import PointM2AE
from pointpeft.models.point_m2ae_pretraining import PointM2AEPretraining
from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.ops import squared_distance

__all__ = [
    "PublishedI2PMAEPretraining",
    "PublishedPointBERTPretraining",
    "PublishedPointM2AEPretraining",
    "first_token_seen",
    "published_features",
    "with_faults",
]


def first_token_seen(levels: Sequence[Level], hidden: Tensor) -> list[Tensor]:
    """The masks of all scales, where members of hidden groups are sent to index 0 of the batch.

    So the first token of the first cloud is always visible at finer scales. Arguments and result
    are those of :func:`pointpeft.models.hierarchy.hide_scales`.
    """
    masks = [hidden]
    for finer, level in zip(reversed(levels[:-1]), reversed(levels[1:]), strict=True):
        mask = hide_finer(masks[-1], level.indices, finer.centers.shape[1])
        mask[0, 0] &= ~masks[-1].any()
        masks.append(mask)
    return masks[::-1]


def leaky_padding_bias(valid: Tensor, centers: Tensor, radius: float) -> Tensor:
    """The bias with which Point-M2AE was pre-trained, ``(B, 1, L, L)``.

    The published mask is the conjunction of "outside the radius" and "padding": it does not limit
    attention among visible tokens, and it opens it to padding, which lies at the origin, for
    tokens nearer to the origin than the radius. Rows of padding are blocked everywhere else.
    Arguments are those of :func:`pointpeft.models.hierarchy.padding_bias`.
    """
    blocked = ~(valid.unsqueeze(1) & valid.unsqueeze(2))
    if radius > 0:
        # Under a compiler there are places behind the longest cloud, which the papers' code lacks.
        surplus = ~valid.any(dim=0)
        blocked = blocked & (squared_distance(centers, centers).sqrt() >= radius) | surplus
    return (blocked.to(torch.promote_types(centers.dtype, torch.float32)) * BLOCKED).unsqueeze(1)


class PublishedPointM2AEPretraining(PointM2AEPretraining):
    """A token of the first cloud is never hidden, and tokens near the origin attend to padding."""

    hide = staticmethod(first_token_seen)
    padding_bias = staticmethod(leaky_padding_bias)


class PublishedI2PMAEPretraining(I2PMAEPretraining):
    """The same faults; of attention to padding nothing is left with the published radii of 0."""

    hide = staticmethod(first_token_seen)
    padding_bias = staticmethod(leaky_padding_bias)


class PublishedPointBERTPretraining(PointBERTPretraining):
    """The BatchNorm statistics of the frozen tokenizer drift."""

    def train(self, mode: bool = True) -> "PublishedPointBERTPretraining":
        """Set the mode, of the tokenizer too."""
        super().train(mode)
        self.dvae.train(mode)
        return self


Build = Callable[[Any, Any], Pretraining]
"""Builds a pre-training model from an encoder and its settings."""

_PRETRAINING: dict[Build, Build] = {
    PointM2AEPretraining: PublishedPointM2AEPretraining,
    I2PMAEPretraining: PublishedI2PMAEPretraining,
    PointBERTPretraining: PublishedPointBERTPretraining,
}


def with_faults(kind: Build, config: ObjectiveConfig) -> Build:
    """The pre-training model to build: ``kind``, or with ``reference_compat`` its faulty form."""
    return _PRETRAINING[kind] if getattr(config, "reference_compat", False) else kind


def published_features(trunk: Trunk, points: Tensor | Tokenized) -> Tensor:
    """Features for retrieval and linear SVMs, ``(B, N, 3) -> (B, C)``, as published code has them.

    On several scales, tokens that no coarser group contains are left out as if they were hidden,
    and tokens near the origin attend to padding. On one scale they are the trunk's own.
    """
    if not isinstance(trunk, PointM2AE):
        return trunk.retrieval_features(points)
    points = points.points if isinstance(points, Tokenized) else points
    levels = trunk.group(points)
    shape = levels[-1].centers.shape[:2]
    nothing = torch.zeros(shape, dtype=torch.bool, device=points.device)
    hidden = first_token_seen(levels, nothing)
    tokens = trunk.run_visible(points, levels, hidden, leaky_padding_bias)[-1]
    return trunk.pool_retrieved(trunk.final_norm(tokens))
