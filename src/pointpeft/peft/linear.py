"""Linear probing: the head is trained on a frozen backbone."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pointpeft.models.trunk import Tokenized
from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["LinearConfig", "LinearTuner"]


@dataclass(frozen=True)
class LinearConfig(PeftConfig):
    """Linear probing has no settings."""

    method = "linear"
    learning_rate = 2e-3


class LinearTuner(Tuner):
    """Trains the head only. Half of its input is a class token that stays at its random start."""

    mergeable = True

    def constants(self, model: Any, points: Tensor) -> dict[str, Tensor | Tokenized]:
        """Of a classifier, all that its head is given."""
        if model.task != "classification":
            return {}
        return {"features": model.forward_features(points, self)}

    def trains(self, name: str) -> bool:
        """The parameters of ``model.head``."""
        return name.startswith("model.head.")
