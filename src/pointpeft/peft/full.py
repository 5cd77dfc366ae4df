"""Full fine-tuning: every parameter is trained and stored."""

from dataclasses import dataclass

from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["FullConfig", "FullTuner"]


@dataclass(frozen=True)
class FullConfig(PeftConfig):
    """Full fine-tuning has no settings."""

    method = "full"


class FullTuner(Tuner):
    """Trains the whole model."""

    mergeable = True

    def trains(self, name: str) -> bool:
        """Every parameter."""
        return True
