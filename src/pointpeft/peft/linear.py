"""Linear probing: the head is trained on a frozen backbone."""

from dataclasses import dataclass

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

    def trains(self, name: str) -> bool:
        """The parameters of ``model.head``."""
        return name.startswith("model.head.")
