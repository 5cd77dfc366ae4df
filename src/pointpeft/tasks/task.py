"""What a backbone is adapted for: all that a fine-tuning run does differently by task."""

import abc
from pathlib import Path
from typing import Any, ClassVar

from pointpeft.data import ShapeData
from pointpeft.data.transforms import Compose
from pointpeft.peft import PeftConfig, PeftModel
from pointpeft.tasks.tuning_module import TuningTask
from pointpeft.training.config import FinetuneConfig

__all__ = ["Goal"]


class Goal(abc.ABC):
    """One value of ``task``.

    Attributes:
        name: that value.
        method: tuning method unless another one is asked for.
        augmentation: recipe of training clouds unless another one is asked for.
        segmented: whether training needs part labels.
        headline: the metric by which seeds are ranked; it is measured as ``val_<headline>`` and
            ``test_<headline>``, where epochs are selected on the test split as the latter alone.
        label: what the progress line calls it.
        averaged: further metrics that are averaged over seeds.
        of_one_seed: metrics that are reported of the best seed alone.
        pth_best: name of the file that the papers' repositories keep the best epoch in.
        pth_last: of the last epoch; None: they keep none.
    """

    name: ClassVar[str]
    method: ClassVar[str]
    augmentation: ClassVar[str]
    segmented: ClassVar[bool] = False
    headline: ClassVar[str]
    label: ClassVar[str]
    averaged: ClassVar[tuple[str, ...]] = ()
    of_one_seed: ClassVar[tuple[str, ...]] = ()
    pth_best: ClassVar[str] = "ckpt-best.pth"
    pth_last: ClassVar[str | None] = "ckpt-last.pth"

    def shown(self, split: str) -> list[tuple[str, str, str]]:
        """Metrics in the progress line, (metric, label, format), if ``split`` selects epochs."""
        of_split = (f"{split}_{self.headline}", f"{split} {self.label}", ".1%")
        return [("train_loss", "loss", ".3f"), of_split]

    def learning_rate(self, settings: PeftConfig) -> float:
        """Peak of the schedule unless another one is asked for."""
        return settings.learning_rate

    @abc.abstractmethod
    def check(self, data: ShapeData, source: str) -> None:
        """Refuse data that cannot give a useful model.

        Raises:
            DataError: the message names ``source`` and says what is needed.
        """

    @abc.abstractmethod
    def network(self, backbone: Any, data: ShapeData) -> Any:
        """The model around an encoder, with as many outputs as the data asks for."""

    @abc.abstractmethod
    def module(
        self,
        model: PeftModel,
        config: FinetuneConfig,
        augmentation: Compose,
        data: ShapeData,
    ) -> TuningTask:
        """What trains the model; it logs ``<split>_score``, larger is better, of the split that
        chooses the epoch.
        """

    @abc.abstractmethod
    def measure(self, model: PeftModel, data: ShapeData, batch_size: int) -> dict[str, Any]:
        """Metrics of the validation and test split, None where a split is empty, and names.

        The batches are those of validation: as in the papers a prediction may depend on its batch.
        """

    def intervals(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Confidence intervals of what is counted by shapes; none where nothing is."""
        return {}

    @abc.abstractmethod
    def report(self, folder: Path, data: ShapeData, device: str) -> None:
        """Write a page about the adapter of the run in ``folder``."""
