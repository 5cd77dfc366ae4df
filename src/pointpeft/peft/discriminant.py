"""Linear discriminant analysis on the tokens of all blocks: our own method, fitted in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.models.network import Network
from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.ops._checks import values_are_known
from pointpeft.peft.all_blocks import AllBlocks, discriminant, pooled, pooled_widths
from pointpeft.peft.frozen_pass import FrozenPass, FrozenStreams, retrieval_pass
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


class LDATuner(FittedTuner):
    """One linear score for every class."""

    config: LDAConfig
    origin: Tensor
    fitted: Tensor

    def __init__(self, model: Classifier, config: LDAConfig) -> None:
        super().__init__(model, config)
        widths, last = pooled_widths(model.backbone), config.blocks
        if last is not None and last > len(widths):
            raise ConfigError(f"blocks={last}: the encoder has {len(widths)}")
        self.draws = config.draws
        self.scores = nn.Linear(sum(widths[-(last or 0) :]), model.num_classes)
        self.register_buffer("origin", torch.zeros(self.scores.in_features))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def fitted_features(self, trunk: Trunk, points: Tensor | Tokenized) -> Tensor:
        """Pooled tokens of the blocks, ``(B, N, 3) -> (B, F)``."""
        seen = AllBlocks()
        trunk.retrieval_features(points, seen)
        last = seen.streams[-(self.config.blocks or 0) :]
        return pooled(stream.patches for stream in last).float()

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """No query, which is of the last block alone."""
        return {}

    def frozen_pass(self, model: Network) -> FrozenPass:
        """That of the trunk alone."""
        return retrieval_pass(model.backbone, for_query=False)

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """The clouds with their pooled tokens."""
        depth = len(model.backbone.blocks)
        first = depth - (self.config.blocks or depth)
        features = pooled(map(frozen.patches, range(first, depth))).float()
        return {"points": replace(frozen.clouds, known={"features": features})}

    def fit(
        self, features: Tensor, labels: Tensor, ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Learn from features ``(S, F)`` with labels ``(S,)``; returns ``shrinkage``."""
        found = discriminant(
            features, labels, self.scores.out_features, self.config.balanced, self.config.shrinkage
        )
        with torch.no_grad():
            self.origin.copy_(found.origin)
            self.scores.weight.copy_(found.weight)
            self.scores.bias.copy_(found.bias)
            self.fitted.fill_(True)
        return {"shrinkage": found.shrinkage}

    def classify(self, features: Tensor) -> Tensor:
        """Log-likelihoods of the classes but for a constant, ``(B, F) -> (B, classes)``."""
        if values_are_known(self.fitted) and not bool(self.fitted):
            raise ConfigError("lda is not fitted yet: call fit")
        return self.scores(features - self.origin)
