"""Part segmentation: a part for every point of a shape whose category is known."""

from itertools import starmap
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointpeft.data import PartTable, ShapeData, ShapeSplit
from pointpeft.data.transforms import Compose
from pointpeft.errors import ConfigError, DataError
from pointpeft.formats import counted, percent
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.part_predictor import PartPrediction, PartPredictor, write_as_found
from pointpeft.measure.part_scores import (
    analyse_parts,
    by_part_name,
    likeliest_parts,
    part_mask,
    score_segmenter,
    segment,
    shape_iou,
)
from pointpeft.measure.result_files import RESULT_SUFFIXES
from pointpeft.measure.scores import class_counts
from pointpeft.models.network import Network
from pointpeft.models.registry import build_segmenter
from pointpeft.models.trunk import Trunk
from pointpeft.peft import FullConfig, PeftConfig, PeftModel
from pointpeft.tasks.shown import Outcome, Predicted, Shown, spread
from pointpeft.tasks.task import PredictOptions, Task
from pointpeft.tasks.tuning_module import TIE_WEIGHT, TuningModule, held_out
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.optimizer import Schedule

__all__ = ["PartSegmentation", "SegmentationModule"]

_FULL_LEARNING_RATE = {"published": 2e-4, "honest": 2e-3}
"""Of full fine-tuning: that of Point-MAE, for 300 epochs, and one for tens of epochs."""


class SegmentationModule(TuningModule):
    """Trains a part-segmentation :class:`PeftModel` with the cross-entropy of all points.

    Args:
        model: the adapted model.
        schedule: learning rate and decay.
        augmentation: random transform of training clouds, which takes their labels along.
        parts: which parts belong to which category.
        split: name of the split that validation measures.
    """

    validated = ("loss", "accuracy", "instance_iou", "score")
    mask: Tensor

    def __init__(
        self,
        model: PeftModel,
        schedule: Schedule,
        augmentation: Compose,
        parts: PartTable,
        split: str = "val",
    ) -> None:
        super().__init__(model, schedule, augmentation, split)
        self.parts = tuple(parts.categories.values())
        self.register_buffer("mask", part_mask(parts), persistent=False)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Mean negative log-likelihood, a scalar, of the parts of an augmented batch.

        Args:
            batch: ``{"points": (B, N, 3), "label": (B,), "seg": (B, N), "index": (B,)}``, labels
                being categories; an item's index keeps its own entry of a memory bank from it.
        """
        points, seg = self.augmentation.with_labels(batch["points"], batch["seg"])
        known = self.constants("train", points, batch)
        logits = self.model(**known, exclude=batch["index"], category=batch["label"])
        loss = F.cross_entropy(logits.flatten(0, 1), seg.flatten())
        accuracy = (logits.argmax(-1) == seg).float().mean()
        self.log_training({"train_loss": loss, "train_accuracy": accuracy}, len(logits))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Log loss, and accuracy and mean IoU of the likeliest parts of each shape's category.

        Args:
            batch: ``{"points": (B, N, 3), "label": (B,), "seg": (B, N), "index": (B,)}``; an item
                at index -1 is not counted.
        """
        known = self.constants(self.split, batch["points"], batch)
        logits, seg = self.model(**known, category=batch["label"]), batch["seg"]
        loss = F.cross_entropy(logits.transpose(1, 2), seg, reduction="none").mean(dim=1)
        found = likeliest_parts(logits, batch["label"], self.mask)
        iou = self._ious(found, seg, batch["label"]).to(loss)
        values = {
            "loss": loss,
            "accuracy": (found == seg).float().mean(dim=1),
            "instance_iou": iou,
            "score": iou - TIE_WEIGHT * loss,
        }
        self.log_means(values, batch["index"])

    def _ious(self, found: Tensor, target: Tensor, category: Tensor) -> Tensor:
        """Of the shapes of a batch: ``(B, N), (B, N), (B,) -> (B,)``."""
        shapes = zip(found.cpu().numpy(), target.cpu().numpy(), category.tolist(), strict=True)
        ious = [shape_iou(one, truth, self.parts[place]) for one, truth, place in shapes]
        return torch.tensor(ious)


class PartSegmentation(Task):
    """A part for every point; seeds are ranked by the mean IoU over shapes."""

    name = "part_segmentation"
    method = "full"
    augmentation = "part-segmentation"
    segmented = True
    output: ClassVar[Path] = Path("runs/predict")
    headline = "instance_iou"
    pth_best = "best_model.pth"
    pth_last = None
    averaged = ("test_class_iou", "test_accuracy")
    of_one_seed = ("test_category_iou", "test_part_iou", "test_mean_class_accuracy")
    label = "IoU"

    def learning_rate(self, settings: PeftConfig, protocol: str) -> float:
        """Of full fine-tuning one of its own, as the network behind the backbone is new."""
        full = isinstance(settings, FullConfig)
        return _FULL_LEARNING_RATE[protocol] if full else settings.learning_rate

    def check(self, data: ShapeData, source: str) -> None:
        """A category with two parts or more."""
        if max(map(len, _parts(data).categories.values())) < 2:
            raise DataError(
                f"{source} has one part in every category; part segmentation needs a category "
                "with two parts or more"
            )

    def network(self, backbone: Trunk, data: ShapeData) -> Network:
        """The part-segmentation model, a logit per part of any category."""
        return build_segmenter(backbone, len(data.part_names), len(data.class_names))

    def module(
        self,
        model: PeftModel,
        config: FinetuneConfig,
        schedule: Schedule,
        augmentation: Compose,
        data: ShapeData,
    ) -> SegmentationModule:
        """Cross-entropy of all points."""
        return SegmentationModule(model, schedule, augmentation, _parts(data), data.selects_on)

    def measure(self, model: PeftModel, data: ShapeData, batch_size: int) -> dict[str, Any]:
        """IoU over shapes and categories, and accuracies of points."""
        parts, num_points = _parts(data), data.transform.num_points
        return {
            **_val_iou(model, data, parts, num_points, batch_size),
            **_metrics(model, data.test, "test", parts, num_points, batch_size),
            **class_counts(data.class_names, data.test.labels),
            "part_names": list(parts.names),
        }

    def evaluate(
        self,
        adapter: LoadedAdapter,
        data: ShapeData,
        part: ShapeSplit,
        split: str,
        batch_size: int,
    ) -> tuple[dict[str, Any], None]:
        """IoU over shapes, categories and parts, and accuracies of points."""
        parts, num_points = adapter.parts, adapter.transform.num_points
        assert parts is not None, "an adapter of this task"
        return {
            "test_instance_iou": None,  # unless it is measured
            "val_instance_iou": None,
            **_val_iou(adapter.model, data, parts, num_points, batch_size),
            **_metrics(adapter.model, part, split, parts, num_points, batch_size),
            "part_names": list(parts.names),
        }, None

    def of_each(
        self, adapter: LoadedAdapter, part: ShapeSplit, batch_size: int
    ) -> NDArray[np.float64]:
        """The mean IoU over the parts of its category."""
        assert adapter.parts is not None, "an adapter of this task"
        assert part.seg is not None, "read with part labels"
        points = torch.from_numpy(part.points)[:, : adapter.transform.num_points]
        category, own = torch.from_numpy(part.labels), tuple(adapter.parts.categories.values())
        found = segment(adapter.model, points, category, part_mask(adapter.parts), batch_size)
        each = zip(found, part.seg[:, : points.shape[1]], part.labels, strict=True)
        return np.array([shape_iou(one, truth, own[place]) for one, truth, place in each])

    def analyse(
        self, adapter: LoadedAdapter, seen: ShapeSplit, part: ShapeSplit, split: str, known: object
    ) -> dict[str, Any]:
        """IoU of every part, and shapes with their parts."""
        assert adapter.parts is not None, "an adapter of this task"
        num_points = adapter.transform.num_points
        return analyse_parts(adapter.model, part, adapter.parts, num_points, split)

    def analyse_run(self, folder: Path, data: ShapeData, device: str) -> dict[str, Any]:
        """The same of a run's adapter, the best seed's if there are several."""
        adapter = LoadedAdapter(folder, device=device)
        return self.analyse(adapter, data.train, *held_out(data), None)

    def scores(self, metrics: dict[str, Any], split: str, in_detail: bool) -> Shown:
        """The IoU of every category, and over all shapes."""
        iou = metrics[f"{split}_instance_iou"]
        if iou is None:
            return Shown(lines=[f"{split} IoU: not measured, there is no {split} split"])
        rows = []
        if categories := metrics.get(f"{split}_category_iou"):  # of several seeds there is none
            each = zip(metrics["class_items"], categories.items(), strict=True)
            rows = [
                (name, str(items), percent(value) if items else "not measured")
                for items, (name, value) in each
            ]
        over_seeds = spread(metrics, f"{split}_instance_iou")
        headline = (
            f"[bold]{split} IoU over shapes: {percent(iou)}[/]{over_seeds}, over "
            f"categories {percent(metrics[f'{split}_class_iou'])}, accuracy of points "
            f"{percent(metrics[f'{split}_accuracy'])} "
            f"({counted(metrics[f'{split}_items'], 'shape')}, "
            f"{counted(len(metrics['class_names']), 'category', 'categories')}, "
            f"{counted(len(metrics['part_names']), 'part')})"
        )
        return Shown(("category", "items", "mean IoU"), rows, [headline])

    def predict(
        self,
        folder: Path,
        files: list[Path],
        options: PredictOptions = PredictOptions(),  # noqa: B008 - frozen
        **adapter: Any,
    ) -> Predicted:
        """The parts of each file, written as a labelled cloud below ``output``."""
        self.refuse_options(folder, options, "resume", "workers", "neighbors_from")
        output = options.output or self.output
        if output.suffix.lower() in RESULT_SUFFIXES:
            raise ConfigError(
                f"`output` {output}: parts are written as labelled clouds, into a folder; name one"
            )
        predictor = PartPredictor(folder, **adapter)
        category = predictor.choose_category(options.category)
        found = predictor.stream(files, category, options.batch_size or 32)
        named = [(str(file), category) for file in files]
        written = write_as_found(found, named, predictor.part_names, output)
        columns = ("file", "part", "share of points", "written to")
        return Predicted(starmap(_outcome, written), columns, len(files), predictor.notes)


def _metrics(
    model: PeftModel, part: ShapeSplit, split: str, parts: PartTable, num_points: int, batch: int
) -> dict[str, Any]:
    """Metrics of a split, None where it is empty."""
    scores = score_segmenter(model, part, parts, num_points, batch)
    return {
        f"{split}_instance_iou": scores.instance_iou if scores else None,
        f"{split}_class_iou": scores.class_iou if scores else None,
        f"{split}_accuracy": scores.accuracy if scores else None,
        f"{split}_mean_class_accuracy": scores.mean_class_accuracy if scores else None,
        f"{split}_category_iou": scores.category_iou if scores else None,
        f"{split}_part_iou": by_part_name(scores.part_iou, parts) if scores else None,
    }


def _val_iou(
    model: PeftModel, data: ShapeData, parts: PartTable, num_points: int, batch: int
) -> dict[str, Any]:
    """What chooses epochs, where the validation split does."""
    if data.selects_on != "val":
        return {}
    key = "val_instance_iou"
    return {key: _metrics(model, data.val, "val", parts, num_points, batch)[key]}


def _outcome(one: PartPrediction, written: Path | None) -> Outcome:
    rows = [
        (one.file if row == 0 else "", name, percent(share), str(written) if row == 0 else "")
        for row, (name, share) in enumerate(one.shares)
    ]
    return Outcome(one.file, _as_json(one, written), rows, one.warnings, one.error)


def _as_json(prediction: PartPrediction, written: Path | None) -> dict[str, Any]:
    return {
        "file": prediction.file,
        "category": prediction.category,
        "parts": [{"part": name, "share": share} for name, share in prediction.shares],
        "points": len(prediction.points),
        "output": None if written is None else str(written),
        "warnings": list(prediction.warnings),
        "error": prediction.error,
    }


def _parts(data: ShapeData) -> PartTable:
    assert data.parts is not None, "read with part labels"
    return data.parts
