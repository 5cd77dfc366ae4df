"""Classification: a class for every shape."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.transforms import Compose
from pointpeft.errors import DataError
from pointpeft.formats import counted, percent, percent_range
from pointpeft.measure.analysis import Outputs, analyse_change, batch_of_run, model_outputs
from pointpeft.measure.calibration import calibration_error, fit_temperature
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.rotations import rotated_accuracies
from pointpeft.measure.scores import (
    Scores,
    accuracy_intervals,
    class_counts,
    classify,
    score,
    wilson_interval,
)
from pointpeft.models.network import Network
from pointpeft.models.registry import build_classifier
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel
from pointpeft.tasks.class_predictions import PredictRows, predict_classes
from pointpeft.tasks.shown import Predicted, Shown, basis, interval, spread
from pointpeft.tasks.task import PredictOptions, Task
from pointpeft.tasks.tuning_module import TIE_WEIGHT, TuningModule, held_out
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.optimizer import Schedule

__all__ = ["UNEQUAL", "Classification", "ClassificationModule", "balanced_weights"]

log = logging.getLogger("pointpeft")

UNEQUAL = 10
"""Where the largest class has more than so many times the training shapes of the smallest, the
epoch is chosen by balanced accuracy."""
_CALIBRATED_FROM = 20  # validation shapes


class ClassificationModule(TuningModule):
    """Trains a :class:`PeftModel` with cross-entropy.

    Args:
        model: the adapted model.
        schedule: learning rate and decay.
        augmentation: random transform of training clouds, applied to whole batches.
        label_smoothing: share of the target that the other classes have in equal parts.
        split: name of the split that validation measures.
        weights: of every class in the loss and in the validation score; None: shapes count alike.
    """

    class_weights: Tensor | None
    validation_weights: Tensor | None
    validated = ("loss", "accuracy", "score")

    def __init__(
        self,
        model: PeftModel,
        schedule: Schedule,
        augmentation: Compose,
        label_smoothing: float = 0.0,
        split: str = "val",
        weights: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> None:
        super().__init__(model, schedule, augmentation, split)
        self.label_smoothing = label_smoothing
        in_training, in_validation = weights
        self.register_buffer("class_weights", in_training, persistent=False)
        self.register_buffer("validation_weights", in_validation, persistent=False)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy, a scalar, of an augmented batch.

        Args:
            batch: ``{"points": (B, N, 3), "label": (B,), "index": (B,)}``; an item's index keeps
                its own entry of a memory bank from it.
        """
        points, index = self.augmentation(batch["points"]), batch["index"]
        logits = self.model(**self.constants("train", points, batch), exclude=index)
        K = logits.shape[1]
        spread = self.label_smoothing * K / max(1, K - 1)  # torch gives the true class a part too
        loss = F.cross_entropy(
            logits, batch["label"], self.class_weights, label_smoothing=min(1.0, spread)
        )
        accuracy = (logits.argmax(1) == batch["label"]).float().mean()
        self.log_training({"train_loss": loss, "train_accuracy": accuracy}, len(logits))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Log accuracy and loss of un-augmented clouds, and the score that selects the model.

        Args:
            batch: ``{"points": (B, N, 3), "label": (B,), "index": (B,)}``; an item at index -1 is
                not counted.
        """
        logits = self.model(**self.constants(self.split, batch["points"], batch))
        loss = F.cross_entropy(logits, batch["label"], reduction="none")
        correct = (logits.argmax(1) == batch["label"]).float()
        weight = 1.0 if self.validation_weights is None else self.validation_weights[batch["label"]]
        score = weight * (correct - TIE_WEIGHT * loss)
        values = {"loss": loss, "accuracy": correct, "score": score}
        self.log_means(values, batch["index"])


class Classification(Task):
    """A class for every shape; seeds are ranked by accuracy."""

    name = "classification"
    votes = True
    rows = True
    headline = "accuracy"
    of_one_seed = ("confusion", "val_mean_class_accuracy")
    averaged = ("test_mean_class_accuracy",)
    label = "accuracy"

    def check(self, data: ShapeData, source: str) -> None:
        """Two classes or more."""
        if len(data.class_names) < 2:
            raise DataError(
                f"{source} has one class, {data.class_names[0]!r}; classification "
                "needs two classes or more"
            )

    def network(self, backbone: Trunk, data: ShapeData) -> Network:
        """The classification model, a logit per class."""
        return build_classifier(backbone, len(data.class_names))

    def module(
        self,
        model: PeftModel,
        config: FinetuneConfig,
        schedule: Schedule,
        augmentation: Compose,
        data: ShapeData,
    ) -> ClassificationModule:
        """Cross-entropy, in which classes may count alike."""
        weights = _class_weights(config, data)
        return ClassificationModule(
            model, schedule, augmentation, config.label_smoothing, data.selects_on, weights
        )

    def calibrate(self, model: PeftModel, data: ShapeData, batch_size: int) -> None:
        """The temperature that suits the validation split, unless that is the test split."""
        if data.selects_on == "val" and len(data.val) >= _CALIBRATED_FROM:
            points = torch.from_numpy(data.val.points)[:, : data.transform.num_points]
            logits = classify(model, points, batch_size).numpy()
            model.adapter.temperature = fit_temperature(logits, data.val.labels)
        elif data.selects_on == "val":
            log.info(
                "probabilities are not calibrated: %d validation shapes, of %d or more a "
                "temperature is fitted", len(data.val), _CALIBRATED_FROM,
            )  # fmt: skip

    def measure(self, model: PeftModel, data: ShapeData, batch_size: int) -> dict[str, Any]:
        """Accuracies, and the confusion of the test split."""
        num_points = data.transform.num_points
        test = _scores(model, data.test, num_points, batch_size)
        metrics = {
            "test_accuracy": test.accuracy if test else None,
            "test_mean_class_accuracy": test.mean_class_accuracy if test else None,
        }
        if data.selects_on == "val":
            val = _scores(model, data.val, num_points, batch_size)
            metrics["val_accuracy"] = val.accuracy if val else None
            metrics["val_mean_class_accuracy"] = val.mean_class_accuracy if val else None
        return {
            **metrics,
            **class_counts(data.class_names, data.test.labels),
            "confusion": test.confusion.tolist() if test else None,
        }

    def evaluate(
        self,
        adapter: LoadedAdapter,
        data: ShapeData,
        part: ShapeSplit,
        split: str,
        batch_size: int,
    ) -> tuple[dict[str, Any], Outputs]:
        """Accuracies, over all shapes and by class, the confusion, and the model's outputs."""
        num_points = adapter.transform.num_points
        points = torch.from_numpy(part.points)[:, :num_points]
        outputs = self._outputs(adapter, part, batch_size)
        names, logits = adapter.class_names, outputs.logits
        scores = score(logits.argmax(axis=1), part.labels, len(names))
        temperature = adapter.model.adapter.temperature
        val = None
        if data.selects_on == "val":
            known = data.val is part
            val = scores if known else _scores(adapter.model, data.val, num_points, batch_size)
        return {
            "test_accuracy": None,  # unless it is measured
            "val_accuracy": val.accuracy if val else None,
            f"{split}_accuracy": scores.accuracy,
            f"{split}_mean_class_accuracy": scores.mean_class_accuracy,
            f"{split}_macro_f1": scores.macro_f1,
            "calibration_error_before": calibration_error(logits, part.labels),
            "calibration_error": calibration_error(logits, part.labels, temperature),
            "temperature": temperature,
            "confused": [[names[a], names[b], count] for a, b, count in scores.confused()],
            **rotated_accuracies(adapter.model, points, part.labels, batch_size),
            "class_accuracy": [None if np.isnan(v) else float(v) for v in scores.class_accuracy],
            "confusion": scores.confusion.tolist(),
        }, outputs

    def _outputs(self, adapter: LoadedAdapter, part: ShapeSplit, batch_size: int) -> Outputs:
        points = torch.from_numpy(part.points)[:, : adapter.transform.num_points]
        return model_outputs(adapter.model, points, batch_size=batch_size)

    def of_each(
        self, adapter: LoadedAdapter, part: ShapeSplit, batch_size: int
    ) -> NDArray[np.float64]:
        """1 where the class is right, else 0."""
        points = torch.from_numpy(part.points)[:, : adapter.transform.num_points]
        right = classify(adapter.model, points, batch_size).argmax(1).numpy() == part.labels
        return right.astype(float)

    def intervals(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Of the accuracies."""
        return accuracy_intervals(metrics)

    def analyse(
        self, adapter: LoadedAdapter, seen: ShapeSplit, part: ShapeSplit, split: str, known: object
    ) -> dict[str, Any]:
        """Maps of features, the confusion, and mistakes."""
        outputs = known if isinstance(known, Outputs) else None
        return analyse_change(adapter.backbone, adapter.model, seen, part, split, outputs)

    def analyse_run(self, folder: Path, data: ShapeData, device: str) -> dict[str, Any]:
        """The same of a run's adapter, the best seed's if there are several."""
        adapter, (part, split) = LoadedAdapter(folder, device=device), held_out(data)
        known = None
        if adapter.model.tuner.depends_on_batch:  # a cloud hangs on its batch
            known = self._outputs(adapter, part, batch_of_run(folder))
        return self.analyse(adapter, data.train, part, split, known)

    def scores(self, metrics: dict[str, Any], split: str, in_detail: bool) -> Shown:
        """The accuracy with its interval, those by voting, and of every class."""
        accuracy = metrics[f"{split}_accuracy"]
        if accuracy is None:
            return Shown(lines=[f"{split} accuracy: not measured, there is no {split} split"])
        over_seeds = spread(metrics, f"{split}_accuracy")
        headline = f"[bold]{split} accuracy: {percent(accuracy)}[/]{over_seeds}"
        return Shown(
            ("class", "items", "accuracy", "95 % interval"),
            _of_classes(metrics) if in_detail else [],
            [f"{headline} ({basis(metrics, split)})"],
            [*_votes(metrics, split), *(_in_detail(metrics, split) if in_detail else [])],
        )

    def predict(
        self,
        folder: Path,
        files: list[Path],
        options: PredictOptions = PredictOptions(),  # noqa: B008 - frozen
        **adapter: Any,
    ) -> Predicted:
        """The likeliest classes of each file, how unusual it is, and training shapes like it."""
        self.refuse_options(folder, options, "category")
        return predict_classes(folder, files, options, **adapter)

    def ranks_by(self, config: FinetuneConfig, data: ShapeData) -> str:
        """Accuracy, or the mean over classes, which is called balanced accuracy, too."""
        return "mean_class_accuracy" if _selects_balanced(config, data) else self.headline

    def row_work(self, folder: Path, options: PredictOptions, **adapter: Any) -> PredictRows:
        """What makes rows of a corpus, with the columns of a file of results."""
        self.refuse_options(folder, options, "category")
        return PredictRows(folder, options.batch_size or 32, options.neighbors_from, **adapter)


def _class_weights(config: FinetuneConfig, data: ShapeData) -> tuple[Tensor | None, Tensor | None]:
    """Of every class in the loss and in the validation score; None: shapes count alike."""
    K, in_training = len(data.class_names), config.class_weights == "balanced"
    in_validation = _selects_balanced(config, data)
    if in_training:
        log.info("class_weights=balanced: in the loss every class counts alike")
    if in_validation:
        counts = np.bincount(data.train.labels)
        log.info(
            "classes have from %d to %d training shapes: the epoch is chosen by balanced accuracy, "
            "the mean over classes",
            counts[counts > 0].min(), counts.max(),
        )  # fmt: skip
    return (
        balanced_weights(data.train.labels, K) if in_training else None,
        balanced_weights(data.val.labels, K) if in_validation else None,
    )


def _selects_balanced(config: FinetuneConfig, data: ShapeData) -> bool:
    """Whether classes count alike in the choice of the epoch."""
    counts = np.bincount(data.train.labels)
    unequal = counts.max() > UNEQUAL * counts[counts > 0].min()
    asked = config.class_weights == "balanced" or (config.protocol == "honest" and unequal)
    return bool(asked and len(data.val))


def balanced_weights(labels: NDArray, num_classes: int) -> Tensor:
    """Weights with which the mean over items is the mean over classes, ``(classes,)``.

    Args:
        labels: ``(S,)``; a class without items has the weight 0.
        num_classes: how many there are.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = max(1, np.count_nonzero(counts))
    weights = np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights).float()


def _of_classes(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    names, items = metrics["class_names"], metrics["class_items"]
    rows: list[tuple[str, ...]] = []
    for name, number, value in zip(names, items, metrics["class_accuracy"], strict=True):
        sure = percent_range(wilson_interval(value, number)) if number else "not measured"
        rows.append((name, str(number), percent(value), sure))
    return rows


def _votes(metrics: dict[str, Any], split: str) -> list[str]:
    lines = []
    if f"{split}_vote_accuracy" in metrics:
        accuracy, rule = metrics[f"{split}_vote_accuracy"], metrics[f"{split}_vote_rule"]
        sure = interval(metrics[f"{split}_vote_accuracy_interval"])
        lines.append(f"{split} accuracy by voting: {percent(accuracy)} ({sure}; {rule})")
    if "training_vote_accuracy" in metrics:
        accuracy = metrics["training_vote_accuracy"]
        lines.append(f"best vote in training: {percent(accuracy)} (adapter_best_vote)")
    return lines


def _in_detail(metrics: dict[str, Any], split: str) -> list[str]:
    """What an accuracy does not say: every class alike, sureness, orientation, mistakes."""
    if "rotated_items" not in metrics:
        return []
    before, after = metrics["calibration_error_before"], metrics["calibration_error"]
    up, space = metrics["rotated_up_accuracies"], metrics["rotated_space_accuracies"]
    pairs = ", ".join(f"{true} as {taken} ({count})" for true, taken, count in metrics["confused"])
    calibrated = f"{percent(before)} without the temperature of {metrics['temperature']:.2f}"
    if metrics["temperature"] == 1:
        calibrated = "not calibrated"
    return [
        f"mean over classes: accuracy {percent(metrics[f'{split}_mean_class_accuracy'])}, "
        f"F1 {percent(metrics[f'{split}_macro_f1'])}",
        f"calibration error: {percent(after)}, {calibrated}",
        f"{counted(metrics['rotated_items'], 'shape')} rotated at random: "
        f"about the up axis {percent(float(np.mean(up)))} "
        f"({percent_range((min(up), max(up)))}), in space {percent(float(np.mean(space)))} "
        f"({percent_range((min(space), max(space)))})",
        f"most confused: {pairs or 'nothing'}",
    ]


def _scores(model: PeftModel, split: ShapeSplit, num_points: int, batch_size: int) -> Scores | None:
    """Scores on a labelled split; None when it is empty."""
    if not len(split):
        return None
    logits = classify(model, torch.from_numpy(split.points)[:, :num_points], batch_size)
    return score(logits.argmax(1).numpy(), split.labels, model.adapter.classifier.num_classes)
