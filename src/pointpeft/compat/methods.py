"""Tuning methods as their published code computes them, faults included."""

from pointpeft.compat.point_peft import PublishedPointPeftTuner
from pointpeft.peft.idpt import IDPTTuner
from pointpeft.peft.method import Tuner
from pointpeft.peft.stag import STAGTuner

__all__ = ["WITH_FAULTS"]


class PublishedIDPTTuner(IDPTTuner):
    """BatchNorm statistics of frozen layers move, and the prompt's position is not trained."""

    freezes_statistics = False

    def trains(self, name: str) -> bool:
        """As in the clean one, but for the prompt's position."""
        return name != "tuner.prompt_pos" and super().trains(name)


class PublishedSTAGTuner(STAGTuner):
    """BatchNorm statistics of frozen layers move in training."""

    freezes_statistics = False


WITH_FAULTS: dict[str, type[Tuner]] = {
    "point-peft": PublishedPointPeftTuner,
    "idpt": PublishedIDPTTuner,
    "stag": PublishedSTAGTuner,
}
"""Tuners of ``reference_compat=True``, by method."""
