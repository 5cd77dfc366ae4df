"""What a backbone is adapted for: all that is done differently by task."""

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.transforms import Compose
from pointpeft.errors import ConfigError, check_sizes
from pointpeft.measure.corpus import Work
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.models.network import Network
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftConfig, PeftModel
from pointpeft.tasks.shown import Predicted, Shown
from pointpeft.tasks.tuning_module import TuningModule
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.optimizer import Schedule

__all__ = ["PredictOptions", "Task"]


@dataclass(frozen=True)
class PredictOptions:
    """How :meth:`Task.predict` goes about it.

    Attributes:
        category: what the shapes are, for tasks that need to know it.
        output: file or folder that results are written into.
        resume: go on with the file ``output``.
        batch_size: clouds that the model sees at once; None: 32.
        workers: processes that read files; None: as many as suit the number of files.
        neighbors_from: the training data, to name its shapes.

    Raises:
        ConfigError: a number is none.
    """

    category: str | None = None
    output: Path | None = None
    resume: bool = False
    batch_size: int | None = None
    workers: int | None = None
    neighbors_from: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self, ["batch_size"])
        check_sizes(self, ["workers"], least=0)


class Task(abc.ABC):
    """One value of the setting ``task``: network, loss, scores, predictions, and what is printed.

    A task of your own sub-classes it and has a line in ``tasks/table.py``.

    Attributes:
        name: that value.
        method: tuning method unless another one is asked for.
        augmentation: recipe of training clouds unless another one is asked for.
        segmented: whether training needs part labels.
        votes: whether a shape has one class, so that predictions can be voted on, episodes be
            drawn, and methods be fitted to features.
        rows: whether a prediction is a row, so that those of a corpus are a folder of shards.
        output: where predictions are written unless another place is named; None: nowhere.
        headline: the metric that counts; it is measured as ``val_<headline>`` and
            ``test_<headline>``, where epochs are selected on the test split as the latter alone.
        label: what the progress line calls it.
        averaged: further metrics that are averaged over seeds.
        of_one_seed: metrics that are reported of the best seed alone.
        pth_best: name of the ``.pth`` file of the best epoch, where that is asked for.
        pth_last: of the last epoch; None: there is none.
    """

    name: ClassVar[str]
    method: ClassVar[str] = "point-peft"
    augmentation: ClassVar[str] = "scale-shift"
    segmented: ClassVar[bool] = False
    votes: ClassVar[bool] = False
    rows: ClassVar[bool] = False
    output: ClassVar[Path | None] = None
    headline: ClassVar[str]
    label: ClassVar[str]
    averaged: ClassVar[tuple[str, ...]] = ()
    of_one_seed: ClassVar[tuple[str, ...]] = ()
    pth_best: ClassVar[str] = "ckpt-best.pth"
    pth_last: ClassVar[str | None] = "ckpt-last.pth"

    # --- training -------------------------------------------------------------------------------

    def progress(self, split: str) -> list[tuple[str, str, str]]:
        """Metrics in the progress line, (metric, label, format), if ``split`` selects epochs."""
        of_split = (f"{split}_{self.headline}", f"{split} {self.label}", ".1%")
        return [("train_loss", "loss", ".3f"), of_split]

    def learning_rate(self, settings: PeftConfig, protocol: str) -> float:
        """Peak of the schedule unless another one is asked for."""
        return settings.learning_rate

    @abc.abstractmethod
    def check(self, data: ShapeData, source: str) -> None:
        """Refuse data that cannot give a useful model.

        Raises:
            DataError: the message names ``source`` and says what is needed.
        """

    @abc.abstractmethod
    def network(self, backbone: Trunk, data: ShapeData) -> Network:
        """The model around an encoder, with as many outputs as the data asks for."""

    @abc.abstractmethod
    def module(
        self,
        model: PeftModel,
        config: FinetuneConfig,
        schedule: Schedule,
        augmentation: Compose,
        data: ShapeData,
    ) -> TuningModule:
        """What trains the model by its loss; it logs ``<split>_score``, larger is better, of the
        split that chooses the epoch.
        """

    def ranks_by(self, config: FinetuneConfig, data: ShapeData) -> str:
        """The metric by which epochs are chosen, and with it learning rates and seeds."""
        return self.headline

    # --- measuring ------------------------------------------------------------------------------

    def calibrate(self, model: PeftModel, data: ShapeData, batch_size: int) -> None:
        """Adjust the adapter to validation shapes once it is trained; here there is nothing."""
        return

    @abc.abstractmethod
    def measure(self, model: PeftModel, data: ShapeData, batch_size: int) -> dict[str, Any]:
        """Metrics of the validation and test split, None where a split is empty, and names.

        The batches are those of validation: in the papers' code a prediction may depend on them.
        """

    @abc.abstractmethod
    def evaluate(
        self,
        adapter: LoadedAdapter,
        data: ShapeData,
        part: ShapeSplit,
        split: str,
        batch_size: int,
    ) -> tuple[dict[str, Any], Any]:
        """Metrics of a saved adapter on ``part``, and on the validation split if there is one.

        Args:
            adapter: on its encoder.
            data: which it is of.
            part: the shapes to measure.
            split: what they are called; a metric is ``<split>_<name>``.
            batch_size: clouds at a time.

        Returns:
            The metrics, and what :meth:`analyse` can use again.
        """

    def of_each(
        self, adapter: LoadedAdapter, part: ShapeSplit, batch_size: int
    ) -> NDArray[np.float64]:
        """The headline metric of every shape, ``(S,)``, of which it is the mean.

        Raises:
            ConfigError: the metric is no mean over shapes.
        """
        raise ConfigError(f"task={self.name} has no score of each shape to compare methods by")

    def intervals(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Confidence intervals of what is counted by shapes; none where nothing is."""
        return {}

    def analyse(
        self, adapter: LoadedAdapter, seen: ShapeSplit, part: ShapeSplit, split: str, known: object
    ) -> dict[str, Any] | None:
        """What the report of a measurement shows beside its metrics; None: there is no report.

        The adapter was trained on the shapes ``seen``. ``known`` is the second result of
        :meth:`evaluate`, which has the other arguments.
        """
        return None

    def analyse_run(self, folder: Path, data: ShapeData, device: str) -> dict[str, Any] | None:
        """The same for the report of the run in ``folder``, of which ``data`` is the data."""
        return None

    def scores(self, metrics: dict[str, Any], split: str, in_detail: bool) -> Shown:
        """What is printed of metrics; with ``in_detail`` a row for each class or category too."""
        value = metrics[f"{split}_{self.headline}"]
        shown = "not measured" if value is None else f"{value:.4g}"
        return Shown(headlines=[f"[bold]{split} {self.label}: {shown}[/]"])

    # --- predicting -----------------------------------------------------------------------------

    @abc.abstractmethod
    def predict(
        self,
        folder: Path,
        files: list[Path],
        options: PredictOptions = PredictOptions(),
        **adapter: Any,
    ) -> Predicted:
        """Apply a saved adapter to files.

        Args:
            folder: adapter or run folder.
            files: meshes and scans; one that cannot be read has an outcome with its ``error``.
            options: how; :meth:`refuse_options` refuses those that a task has no use for.
            adapter: arguments of :class:`LoadedAdapter`.

        Raises:
            ConfigError: the task has no use for an option.
        """

    def row_work(self, folder: Path, options: PredictOptions, **adapter: Any) -> Work:
        """What makes the rows of :meth:`predict` for a corpus.

        Args:
            folder: adapter or run folder.
            options: how.
            adapter: arguments of :class:`LoadedAdapter` but the device.

        Raises:
            ConfigError: a prediction of the task is no row, or it has no use for an option.
        """
        raise ConfigError(
            f"the adapter in {folder} is for {self.name}, whose results are no rows: leave "
            "`engine` and `shard_size` out"
        )

    def refuse_options(self, folder: Path, options: PredictOptions, *names: str) -> None:
        """Refuse options of :meth:`predict` that a task has no use for.

        Raises:
            ConfigError: one of those called ``names`` is given.
        """
        for name in names:
            if getattr(options, name) not in (None, False):
                raise ConfigError(
                    f"the adapter in {folder} is for {self.name}: leave `{name}` out; --json "
                    "prints what a program can read"
                )
