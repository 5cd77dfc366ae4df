"""Nearest neighbours on frozen features, as a method: it remembers the training shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_numbers, check_sizes
from pointpeft.models.heads import Classifier
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.method import FittedConfig, FittedTuner

__all__ = ["KNNConfig", "KNNTuner"]


@dataclass(frozen=True)
class KNNConfig(FittedConfig):
    """Votes of the nearest training shapes by cosine similarity of features."""

    method = "knn"

    neighbors: int = 5  # that vote; fewer where there are fewer shapes
    temperature: float = 0.07  # of their weights, exp(similarity / temperature)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ["neighbors"])
        check_numbers(self, ["temperature"])
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature!r}")


class KNNTuner(FittedTuner):
    """Holds a memory bank of the training shapes with their labels."""

    takes_bank = True
    config: KNNConfig

    def __init__(
        self, model: Classifier, config: KNNConfig, bank: MemoryBank | None = None
    ) -> None:
        super().__init__(model, config)
        self.num_classes = model.num_classes
        self.bank = bank

    def fit(
        self, features: Tensor, labels: Tensor, ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Remember features ``(S, C)`` with their labels ``(S,)``."""
        columns = F.normalize(features, dim=1).T.contiguous().half()
        self.bank = MemoryBank(columns, labels, ids)
        return {}

    def classify(self, features: Tensor) -> Tensor:
        """Logarithms of the share of the votes of each class, ``(B, C) -> (B, classes)``.

        Where classes count alike, a vote is divided by the number of shapes of its class.
        """
        if self.bank is None:
            raise ConfigError("knn knows no shapes yet: call fit, or add the adapter with a bank")
        found = self.bank.retrieve(features, min(self.config.neighbors, len(self.bank)))
        votes = (found.similarity / self.config.temperature).softmax(dim=1)
        labels = self.bank.labels[found.indices]
        if self.config.balanced:
            ones = torch.ones_like(self.bank.labels, dtype=votes.dtype)
            counts = votes.new_zeros(self.num_classes).scatter_add(0, self.bank.labels, ones)
            votes = votes / counts[labels]
            votes = votes / votes.sum(dim=1, keepdim=True)
        shares = votes.new_zeros(features.shape[0], self.num_classes).scatter_add(1, labels, votes)
        return shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
