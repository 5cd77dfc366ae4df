"""The honest way to read data, to choose an epoch and to measure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor

from pointpeft.data import InputTransform, RawShape, ShapeData, ShapeSplit
from pointpeft.data.benchmarks import BenchmarkSplit
from pointpeft.data.prepare import Prepared
from pointpeft.data.transforms import Compose, recipe
from pointpeft.errors import DataError
from pointpeft.measure.voting import vote_once
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel
from pointpeft.training.config import DataConfig, FinetuneConfig, PretrainConfig, RunConfig
from pointpeft.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pointpeft.training.unlabelled import PretrainingData

__all__ = ["HONEST", "Protocol"]

Progress = Callable[[int, int], None] | None
Run = TypeVar("Run", FinetuneConfig, PretrainConfig)


class Protocol:
    """How a run is done: epochs are chosen on a validation split, and a test split is used once.

    Attributes:
        name: value of the setting ``protocol``.
        notice: what a run says first; None: nothing.
        selection: what the epoch is chosen on, in words.
        needed: splits that are cut from the training split where the data has none.
        drop_last: leave out a last training batch that is not full.
        selects_on: name of the split that chooses the epoch.
        fallback: note on data that it reads like all other; None: none.
        svm_normalize: how clouds are scaled for an SVM in pre-training; None: as in training.
    """

    name: ClassVar[str] = "honest"
    notice: ClassVar[str | None] = None
    selection: ClassVar[str] = "validation split"
    needed: ClassVar[tuple[str, ...]] = ("test", "val")
    drop_last: ClassVar[bool] = False
    selects_on: ClassVar[str] = "val"
    fallback: ClassVar[str | None] = None
    svm_normalize: ClassVar[str | None] = None

    def resolve(self, config: Run) -> Run:
        """The config with what the protocol decides."""
        return config

    def features(self, trunk: Trunk, points: Tensor) -> Tensor:
        """What linear SVMs see of clouds, ``(B, N, 3) -> (B, C)``."""
        return trunk.retrieval_features(points)

    def extra_epochs(self, config: RunConfig) -> int:
        """Epochs beyond ``trainer.epochs``; the first so many are not selected."""
        return 0

    def read(
        self,
        config: DataConfig,
        transform: InputTransform,
        farthest: bool = True,
        segmented: bool = False,
        progress: Progress = None,
    ) -> ShapeData | None:
        """Labelled data that the protocol reads in its own way; None: it reads it like all other.

        Arguments are those of :func:`pointpeft.training.inputs.load_data`.
        """
        return None

    def read_unlabelled(
        self, config: PretrainConfig, num_points: int, progress: Progress = None
    ) -> "PretrainingData | None":
        """Clouds for pre-training that it reads in its own way, or None; see ``unlabelled.py``."""
        return None

    def episode(
        self, train: BenchmarkSplit, test: BenchmarkSplit, transform: InputTransform
    ) -> tuple[ShapeSplit, ShapeSplit]:
        """The clouds of a few-shot episode that was read from files, prepared.

        Raises:
            DataError: a cloud cannot be used.
        """
        return _prepared(train, transform), _prepared(test, transform)

    def selecting(self, data: ShapeData) -> ShapeData:
        """The data with the split as "val" that is to choose the epoch."""
        return data

    def criterion(self, headline: str) -> str:
        """The metric that chooses the epoch, of a task that is ranked by ``headline``."""
        return "score"

    def augmentation(self, name: str | None, num_points: int, task: str) -> Compose:
        """What is done to training clouds, see :func:`pointpeft.data.transforms.recipe`."""
        return recipe(name, num_points)

    def in_order(self, split: ShapeSplit, num_points: int) -> ShapeSplit:
        """Clouds in farthest-point order, ready to be cut to ``num_points``; here they are."""
        return split

    def votes_in_training(self, config: FinetuneConfig, data: ShapeData, run: RunFolder) -> Any:
        """The callback that votes after good epochs, with ``conclude(task, save)``; or None."""
        return None

    def votes(
        self,
        model: PeftModel,
        split: ShapeSplit,
        num_points: int,
        votes: int,
        seed: int = 0,
        progress: Progress = None,
    ) -> dict[str, Any]:
        """Accuracy by voting, 0 to 1, as ``vote_accuracy``, and ``vote_rule`` in words.

        Arguments are those of :func:`pointpeft.measure.voting.vote_once`.
        """
        return vote_once(model, split, num_points, votes, seed, progress)

    def svm_features(self, model: Pretrainable) -> Callable[[Tensor], Tensor] | None:
        """Features of a pre-training model for an SVM; None: retrieval features of its encoder."""
        return None


HONEST = Protocol()


def _prepared(split: BenchmarkSplit, transform: InputTransform) -> ShapeSplit:
    shapes = [RawShape(cloud, None, id) for cloud, id in zip(split.points, split.ids, strict=True)]
    clouds = []
    for shape, made in zip(shapes, transform.prepare_batch(shapes), strict=True):
        if not isinstance(made, Prepared):
            raise DataError(f"{shape.source}: {made}")
        clouds.append(made.points)
    return ShapeSplit(np.stack(clouds), split.labels, split.ids)
