"""Classification: a class for every shape."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.transforms import Compose
from pointpeft.errors import DataError
from pointpeft.measure.analysis import analyse_adapter
from pointpeft.measure.class_scores import Scores, classify, score
from pointpeft.measure.intervals import accuracy_intervals, class_counts
from pointpeft.measure.report import write_run_report
from pointpeft.models.factory import build_classifier
from pointpeft.peft import PeftModel
from pointpeft.tasks.task import Goal
from pointpeft.tasks.tuning_module import TIE_WEIGHT, TuningTask, held_out
from pointpeft.training.config import FinetuneConfig, OptimizerConfig

__all__ = ["Classification", "ClassificationTask"]


class ClassificationTask(TuningTask):
    """Trains a :class:`PeftModel` with cross-entropy.

    Args:
        model: the adapted model.
        optimizer: learning rate, decay and schedule.
        augmentation: random transform of training clouds, applied to whole batches.
        label_smoothing: share of the target that the other classes have in equal parts.
        split: name of the split that validation measures.
    """

    validated = ("loss", "accuracy", "score")

    def __init__(
        self,
        model: PeftModel,
        optimizer: OptimizerConfig,
        augmentation: Compose,
        label_smoothing: float = 0.0,
        split: str = "val",
    ) -> None:
        super().__init__(model, optimizer, augmentation, split)
        self.label_smoothing = label_smoothing

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy, a scalar, of an augmented batch.

        Args:
            batch: ``{"points": (B, N, 3), "label": (B,), "index": (B,)}``; an item's index keeps
                its own entry of a memory bank from it.
            batch_index: not used.
        """
        logits = self.model(self.augmentation(batch["points"]), exclude=batch["index"])
        K = logits.shape[1]
        spread = self.label_smoothing * K / max(1, K - 1)  # torch gives the true class a part too
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=min(1.0, spread))
        accuracy = (logits.argmax(1) == batch["label"]).float().mean()
        self.log_training({"train_loss": loss, "train_accuracy": accuracy}, len(logits))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Log accuracy and loss of un-augmented clouds, and the score that selects the model.

        Args:
            batch: ``{"points": (B, N, 3), "label": (B,), "index": (B,)}``; an item at index -1 is
                not counted.
            batch_index: not used.
        """
        logits = self.model(batch["points"])
        loss = F.cross_entropy(logits, batch["label"], reduction="none")
        correct = (logits.argmax(1) == batch["label"]).float()
        values = {"loss": loss, "accuracy": correct, "score": correct - TIE_WEIGHT * loss}
        self.log_means(values, batch["index"])


class Classification(Goal):
    """A class for every shape; seeds are ranked by accuracy."""

    name = "classification"
    method = "point-peft"
    augmentation = "scale-shift"
    headline = "accuracy"
    of_one_seed = ("confusion", "test_mean_class_accuracy")
    label = "accuracy"

    def check(self, data: ShapeData, source: str) -> None:
        """Two classes or more."""
        if len(data.class_names) < 2:
            raise DataError(
                f"{source} has one class, {data.class_names[0]!r}; classification "
                "needs two classes or more"
            )

    def network(self, backbone: Any, data: ShapeData) -> Any:
        """The classification model, a logit per class."""
        return build_classifier(backbone, len(data.class_names))

    def module(
        self,
        model: PeftModel,
        config: FinetuneConfig,
        augmentation: Compose,
        data: ShapeData,
    ) -> ClassificationTask:
        """Cross-entropy."""
        split = data.selects_on
        return ClassificationTask(
            model, config.optimizer, augmentation, config.label_smoothing, split
        )

    def measure(self, model: PeftModel, data: ShapeData, batch_size: int) -> dict[str, Any]:
        """Accuracies, and the confusion of the test split."""
        test = evaluate_split(model, data.test, batch_size)
        metrics = {
            "test_accuracy": test.accuracy if test else None,
            "test_mean_class_accuracy": test.mean_class_accuracy if test else None,
        }
        if data.selects_on == "val":
            val = evaluate_split(model, data.val, batch_size)
            metrics["val_accuracy"] = val.accuracy if val else None
        return {
            **metrics,
            **class_counts(data.class_names, data.test.labels),
            "confusion": test.confusion.tolist() if test else None,
        }

    def intervals(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Of the accuracies."""
        return accuracy_intervals(metrics)

    def report(self, folder: Path, data: ShapeData, device: str) -> None:
        """Analyse the adapter, the best seed's if there are several, and write the page."""
        analysis = analyse_adapter(folder, data.train, *held_out(data), device=device)
        write_run_report(folder, analysis)


def evaluate_split(model: PeftModel, split: ShapeSplit, batch_size: int) -> Scores | None:
    """Scores on a labelled split, in batches of ``batch_size``; None when it is empty.

    Raises:
        DataError: the model does not say how its input is prepared.
    """
    if not len(split):
        return None
    transform = (model.input or {}).get("transform")
    if transform is None:
        raise DataError("the model does not say how its input is prepared")
    points = torch.from_numpy(split.points)[:, : transform["num_points"]]
    predictions = classify(model, points, batch_size).argmax(1).numpy()
    return score(predictions, split.labels, model.model.num_classes)
