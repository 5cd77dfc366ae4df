"""Norm tuning: scales and shifts of the layer norms are trained.

Qi et al., Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models,
arXiv 2211.08682.
"""

import re
from dataclasses import dataclass

from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["NormConfig", "NormTuner"]

_TRAINED = re.compile(
    r"^model\.(?!backbone\.)|^model\.backbone\.(blocks\.\d+\.norm\d|norm|norms\.\d+)\.(weight|bias)$"
)


@dataclass(frozen=True)
class NormConfig(PeftConfig):
    """Norm tuning has no settings."""

    method = "norm"
    learning_rate = 2e-3


class NormTuner(Tuner):
    """Trains the norms of blocks, the final norms, class token and head."""

    mergeable = True

    def trains(self, name: str) -> bool:
        """Norms of the transformer, and what stands outside of the encoder."""
        return bool(_TRAINED.match(name))
