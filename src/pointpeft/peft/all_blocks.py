"""A linear rule on the tokens of all blocks: how it is fitted, and the head that begins with it.

Early blocks see surfaces, late ones shapes; a linear rule is free to use both. There are far more
features than shapes, so that the covariance is shrunk by as much as the data ask for.
"""

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.errors import DataError
from pointpeft.models.heads import Classifier
from pointpeft.models.layers import Block
from pointpeft.models.trunk import PLAIN, Method, Stream, Trunk
from pointpeft.ops._numerics import full_precision

__all__ = [
    "AllBlocks",
    "Discriminant",
    "DiscriminantHead",
    "discriminant",
    "pooled",
    "pooled_widths",
]


class AllBlocks(Method):
    """Has the head see the mean and the maximum over the patch tokens behind every block.

    Args:
        method: acts on the encoder; what it gives to a head of its own is left aside.

    Attributes:
        streams: behind each block, of one pass.
    """

    def __init__(self, method: Method = PLAIN) -> None:
        super().__init__()
        self._method = (method,)  # in a tuple: it is no part of this
        self.streams: list[Stream] = []

    def embed(self, trunk: Trunk, stream: Stream) -> Stream:
        """As the method does."""
        return self._method[0].embed(trunk, stream)

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """As the method does."""
        stream = self._method[0].block(place, block, stream)
        self.streams.append(stream)
        return stream

    def pool(self, model: Classifier, stream: Stream) -> Tensor:
        """Of all blocks, ``(B, F)``."""
        return pooled(stream.patches for stream in self.streams)


def pooled(tokens: Iterable[Tensor]) -> Tensor:
    """Mean and maximum over tokens ``(B, G, C)`` of each block, ``(B, F)``."""
    rows = [(each.mean(dim=1), each.amax(dim=1)) for each in tokens]
    return torch.cat(list(chain.from_iterable(rows)), dim=1)


def pooled_widths(trunk: Trunk) -> list[int]:
    """Channels that :func:`pooled` has of each block."""
    return [2 * scale.dim for scale in trunk.scales for _ in scale.blocks]


class Discriminant(NamedTuple):
    """A linear rule: the score of class k is ``weight[k] (x - origin) + bias[k]``.

    Attributes:
        weight: ``(classes, F)``.
        bias: ``(classes,)``; a class without a shape has the least that there is.
        origin: ``(F,)``. Features are small differences around it, too small for single precision
            without it.
        shrinkage: of the covariance, from 0 to 1.
    """

    weight: Tensor
    bias: Tensor
    origin: Tensor
    shrinkage: float


_SINGULAR = "the covariance has no inverse: give a shrinkage above 0 (peft.shrinkage), such as 0.01"


def discriminant(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    balanced: bool = False,
    shrinkage: float | None = None,
) -> Discriminant:
    """Linear discriminant analysis (Fisher 1936) with a shrunk covariance.

    The score of class k is ``w_k x + b_k`` with ``w_k = Sigma^-1 m_k`` and
    ``b_k = log p_k - w_k m_k / 2``: m_k is the mean of the class, p_k its share, or the same of all
    where classes count alike, and Sigma the covariance within classes, shrunk towards a multiple of
    the identity.

    Args:
        features: ``(S, F)``.
        labels: ``(S,)``.
        num_classes: how many there are.
        balanced: classes count alike, however many shapes they have.
        shrinkage: None: that of Ledoit and Wolf (2004).

    Raises:
        DataError: fewer than two classes, features that are not finite, or too few for a covariance
            without shrinkage.
    """
    classes, labels = labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"lda needs two classes or more, the training set has {len(classes)}")
    x = features.double()
    if not x.isfinite().all():
        raise DataError("features are NaN or infinite: the weights of the encoder are damaged")
    scale = x.std(dim=0).clamp(min=torch.finfo(torch.float32).eps)
    x = (x - x.mean(dim=0)) / scale
    counts = labels.bincount().double()
    means = x.new_zeros(len(classes), x.shape[1]).index_add_(0, labels, x) / counts[:, None]
    within = x - means[labels]
    if shrinkage is None:
        from sklearn.covariance import ledoit_wolf_shrinkage  # here: slow to import

        shrinkage = float(ledoit_wolf_shrinkage(within.numpy(), assume_centered=True))
    covariance = within.T @ within / len(x)
    level = float(covariance.diagonal().mean())
    if not level:  # a single sampling of each class: the nearest mean wins
        level = shrinkage = 1.0
    covariance.mul_(1 - shrinkage).diagonal().add_(shrinkage * level)
    if shrinkage == 0 and len(x) < x.shape[1] + len(classes):
        raise DataError(
            f"{_SINGULAR}, as {len(x):,} samplings of shapes are for {x.shape[1]:,} channels"
        )
    try:
        weights = torch.linalg.solve(covariance, means.T).T
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise DataError(_SINGULAR) from error
    shares = torch.ones_like(counts) if balanced else counts
    biases = (shares / shares.sum()).log() - (weights * means).sum(dim=1) / 2
    weight = torch.zeros(num_classes, x.shape[1])
    bias = torch.full((num_classes,), torch.finfo(torch.float32).min)
    weight[classes], bias[classes] = (weights / scale).float(), biases.float()
    return Discriminant(weight, bias, features.double().mean(dim=0).float(), shrinkage)


class DiscriminantHead(nn.Module):
    """A linear score for every class, which begins as that of :func:`discriminant`.

    Args:
        num_features: channels F of :class:`AllBlocks`.
        num_classes: number of logits.
    """

    origin: Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(num_features, num_classes)
        self.register_buffer("origin", torch.zeros(num_features))

    @torch.no_grad()
    def begin(self, found: Discriminant, temperature: float) -> None:
        """Take the scores of a fitted rule, divided by a temperature.

        Without it they are far too sure of shapes that they were fitted to, which then teach
        nothing.
        """
        self.origin.copy_(found.origin)
        self.scores.weight.copy_(found.weight / temperature)
        self.scores.bias.copy_((found.bias / temperature).clamp(min=_NEVER))

    def forward(self, features: Tensor) -> Tensor:
        """``(B, F) -> (B, classes)``, in full precision."""
        with full_precision(features):
            return self.scores(features.float() - self.origin)


_NEVER = -1e4
"""Score of a class without a shape, from which training can still bring it back."""
