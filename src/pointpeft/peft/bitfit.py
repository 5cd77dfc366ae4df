"""BitFit: biases of the transformer are trained.

Ben Zaken et al., ACL 2022, arXiv 2106.10199.
"""

import re
from dataclasses import dataclass

from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["BitFitConfig", "BitFitTuner"]

_TRAINED = re.compile(r"^model\.(?!backbone\.)|^model\.backbone\.(blocks|norms?)\..*bias$")


@dataclass(frozen=True)
class BitFitConfig(PeftConfig):
    """BitFit has no settings."""

    method = "bitfit"
    learning_rate = 2e-3


class BitFitTuner(Tuner):
    """Trains the biases of blocks and final norms, class token and head; the tokenizer stays."""

    mergeable = True

    def trains(self, name: str) -> bool:
        """Biases of the transformer, and what stands outside of the encoder."""
        return bool(_TRAINED.match(name))
