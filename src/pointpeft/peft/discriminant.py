"""Linear discriminant analysis on the tokens of all blocks: our own method, fitted in seconds.

Early blocks see surfaces, late ones shapes; a linear rule is free to use both. There are far more
features than shapes, so that the covariance is shrunk by as much as the data ask for.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, DataError, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Method, Stream, Tokenized, Trunk
from pointpeft.ops._checks import values_are_known
from pointpeft.ops._numerics import full_precision
from pointpeft.peft.method import Constants, FittedConfig, FittedTuner

__all__ = ["LDAConfig", "LDATuner"]


@dataclass(frozen=True)
class LDAConfig(FittedConfig):
    """Linear discriminant analysis (Fisher 1936) with a shrunk covariance."""

    method = "lda"

    blocks: int | None = None  # how many of the last blocks are looked at; None: all
    draws: int = 4  # samplings of each training shape that are learnt from
    shrinkage: float | None = None  # from 0 to 1; None: that of Ledoit and Wolf (2004)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ["blocks", "draws"])
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise ConfigError(f"shrinkage must be from 0 to 1, got {self.shrinkage!r}")


class _Pooled(Method):
    """Collects the mean and the maximum over the patch tokens behind every block."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Tensor] = []

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """The block, unchanged."""
        stream = super().block(place, block, stream)
        self.rows += [stream.patches.mean(dim=1), stream.patches.amax(dim=1)]
        return stream


class LDATuner(FittedTuner):
    """One linear score for every class."""

    config: LDAConfig
    origin: Tensor
    fitted: Tensor

    def __init__(self, model: Classifier, config: LDAConfig) -> None:
        super().__init__(model, config)
        trunk, last = model.backbone, config.blocks
        widths = [scale.dim for scale in trunk.scales for _ in scale.blocks]
        if last is not None and last > len(widths):
            raise ConfigError(f"blocks={last}: the encoder has {len(widths)}")
        self.draws = config.draws
        self.scores = nn.Linear(2 * sum(widths[-(last or 0) :]), model.num_classes)
        # Features are small differences around it, too small for single precision without it.
        self.register_buffer("origin", torch.zeros(self.scores.in_features))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def fitted_features(self, trunk: Trunk, points: Tensor | Tokenized) -> Tensor:
        """Pooled tokens of the blocks, ``(B, N, 3) -> (B, F)``."""
        seen = _Pooled()
        trunk.retrieval_features(points, seen)
        return torch.cat(seen.rows[-2 * (self.config.blocks or 0) :], dim=1).float()

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """The pooled tokens, where they are known: no query, which is of the last block alone."""
        return dict(found.known)

    def constants(self, model: Network, points: Tensor | Tokenized) -> Constants:
        """The clouds with their pooled tokens."""
        found = model.backbone.tokenize(points)
        with full_precision(found.points):
            pooled = self.fitted_features(model.backbone.eval(), found)
        return {"points": replace(found, known={"features": pooled})}

    def constants_key(self, model: Network) -> tuple[str, Hashable] | None:
        """The same of all that pool as many blocks."""
        return "points", (LDATuner, self.config.blocks)

    def fit(
        self, features: Tensor, labels: Tensor, ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Learn from features ``(S, F)`` with labels ``(S,)``; returns ``shrinkage``.

        The score of class k is ``w_k x + b_k`` with ``w_k = Sigma^-1 m_k`` and
        ``b_k = log p_k - w_k m_k / 2``: m_k is the mean of the class, p_k its share, or
        the same of all where classes count alike, and Sigma the covariance within classes, shrunk
        towards a multiple of the identity.
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
        shrinkage = self._shrinkage(within)
        covariance = within.T @ within / len(x)
        level = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float32).eps)
        covariance.mul_(1 - shrinkage).diagonal().add_(shrinkage * level)
        weights = torch.linalg.solve(covariance, means.T).T
        with torch.no_grad():
            self.origin.copy_(features.double().mean(dim=0))
            shares = torch.ones_like(counts) if self.config.balanced else counts
            biases = (shares / shares.sum()).log() - (weights * means).sum(dim=1) / 2
            self.scores.weight.zero_()
            # Classes without a shape get the least of all scores.
            self.scores.bias.fill_(torch.finfo(torch.float32).min)
            self.scores.weight[classes] = (weights / scale).float()
            self.scores.bias[classes] = biases.float()
            self.fitted.fill_(True)
        return {"shrinkage": shrinkage}

    def classify(self, features: Tensor) -> Tensor:
        """Log-likelihoods of the classes but for a constant, ``(B, F) -> (B, classes)``."""
        if values_are_known(self.fitted) and not bool(self.fitted):
            raise ConfigError("lda is not fitted yet: call fit")
        return self.scores(features - self.origin)

    def _shrinkage(self, within: Tensor) -> float:
        if self.config.shrinkage is not None:
            return self.config.shrinkage
        from sklearn.covariance import ledoit_wolf_shrinkage  # here: slow to import

        return float(ledoit_wolf_shrinkage(within.numpy(), assume_centered=True))
