"""Measuring a saved adapter on labelled data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.compat.protocol import find_protocol
from pointpeft.data import PartTable, ShapeSplit
from pointpeft.errors import ConfigError
from pointpeft.measure.analysis import Outputs, analyse_change, model_outputs
from pointpeft.measure.batches import batch_of_run
from pointpeft.measure.class_scores import Scores, score
from pointpeft.measure.evaluate_config import EvaluateConfig
from pointpeft.measure.intervals import accuracy_intervals, class_counts
from pointpeft.measure.part_analysis import analyse_parts, by_part_name
from pointpeft.measure.part_scores import SegmentationScores, score_segmenter
from pointpeft.measure.predictor import LoadedAdapter
from pointpeft.measure.records import (
    check_output,
    peak_memory_bytes,
    versions,
    write_measurement,
)
from pointpeft.measure.report import write_run_report
from pointpeft.measure.seen_shapes import Measured, read_measured
from pointpeft.peft import resolve_adapter
from pointpeft.peft.saving import weights_file
from pointpeft.process_state import undisturbed
from pointpeft.progress import Meter

__all__ = ["choose_device", "evaluate_adapter"]


def choose_device(name: str) -> str:
    """A torch device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` cuda: no usable GPU was found; take cpu")
    return name


@undisturbed()
def evaluate_adapter(
    folder: str | Path,
    source: str,
    output: str | Path,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Accuracy of an adapter, over all items and per class; written with a report.

    Of a part-segmentation adapter, mean IoU and accuracy of points.

    Args:
        folder: adapter or run folder.
        source: labelled data, as for training; its classes must be known to the adapter.
        output: folder for ``config.yaml``, ``metrics.json``, ``log.txt``, ``analysis.json`` and
            ``report.html``.
        progress: called with (done, total) while shapes are read.
        settings: others of :class:`EvaluateConfig`, such as ``split``.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: a setting cannot be had, or ``output`` is a file or holds results already.
        DataError: unusable data, none of it in the split, or of other classes.
        CheckpointError: no adapter, or weights that do not fit.
    """
    config = EvaluateConfig(str(folder), source, **settings)
    check_output(output)
    device = choose_device(config.device)
    adapter = LoadedAdapter(folder, config.checkpoint, config.up_axis, device)
    if config.votes and adapter.parts is not None:
        raise ConfigError(f"votes={config.votes}: classifiers alone vote")
    measured = read_measured(config, adapter, progress)
    metrics, outputs = _measure(config, adapter, measured)
    write_measurement(output, config, metrics)
    write_run_report(output, _analyse(adapter, measured, outputs))
    return metrics


def _analyse(adapter: LoadedAdapter, measured: Measured, outputs: Outputs | None) -> dict[str, Any]:
    """What the report shows beside the metrics."""
    part, split = measured.part, measured.split
    if adapter.parts is not None:
        num_points = adapter.transform.num_points
        return analyse_parts(adapter.model, part, adapter.parts, num_points, split)
    return analyse_change(adapter.backbone, adapter.model, measured.seen, part, split, outputs)


def _measure(
    config: EvaluateConfig, adapter: LoadedAdapter, measured: Measured
) -> tuple[dict[str, Any], Outputs | None]:
    """What ``metrics.json`` holds, and what a classifier made of the shapes."""
    data, part, split = measured.data, measured.part, measured.split
    start = time.perf_counter()
    size = config.batch_size or batch_of_run(config.adapter)
    scores, outputs = _scores(adapter, part, size)
    seconds = time.perf_counter() - start
    val = None
    if len(data.val) and data.selects_on == "val":
        val = scores if data.val is part else _scores(adapter, data.val, size)[0]
    model = adapter.model
    metrics: dict[str, Any] = {
        "adapter": config.adapter,
        "data": config.data,
        "data_title": data.title,
        "split": split,
        "protocol": config.protocol,
        "seed": config.seed,
        "method": model.config.method,
        "model": model.base_spec.name,
        **(
            _class_metrics(scores, val, split)
            if adapter.parts is None
            else _part_metrics(scores, val, split, adapter.parts)
        ),
        f"{split}_items": len(part),
        "trainable_parameters": model.count_parameters()["trainable"],
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        **class_counts(adapter.class_names, part.labels),
        "notes": list(data.notes),
        "skipped": [f"{p.item}: {p.reason}" for p in data.problems],
        "stored_bytes": weights_file(resolve_adapter(config.adapter)).stat().st_size,
        "versions": versions(),
    }
    if config.votes:
        num_points = adapter.transform.num_points
        with Meter("voting") as meter:
            voted = find_protocol(config.protocol).votes(
                model, part, num_points, config.votes, config.seed, meter.update
            )
        metrics |= {f"{split}_{key}": value for key, value in voted.items()}
    if adapter.parts is None:
        metrics |= accuracy_intervals(metrics)
    return metrics, outputs


def _scores(
    adapter: LoadedAdapter, part: ShapeSplit, batch_size: int
) -> tuple[Any, Outputs | None]:
    """Scores of a classifier with its outputs, or of a part segmenter."""
    num_points = adapter.transform.num_points
    if adapter.parts is not None:
        parts = adapter.parts
        return score_segmenter(adapter.model, part, parts, num_points, batch_size), None
    points = torch.from_numpy(part.points)[:, :num_points]
    outputs = model_outputs(adapter.model, points, batch_size=batch_size)
    predictions = outputs.logits.argmax(axis=1)
    return score(predictions, part.labels, len(adapter.class_names)), outputs


def _class_metrics(scores: Scores, val: Scores | None, split: str) -> dict[str, Any]:
    return {
        "task": "classification",
        "test_accuracy": None,  # unless it is measured
        "val_accuracy": val.accuracy if val else None,
        f"{split}_accuracy": scores.accuracy,
        f"{split}_mean_class_accuracy": scores.mean_class_accuracy,
        "class_accuracy": [None if np.isnan(v) else float(v) for v in scores.class_accuracy],
        "confusion": scores.confusion.tolist(),
    }


def _part_metrics(
    scores: SegmentationScores, val: SegmentationScores | None, split: str, parts: PartTable
) -> dict[str, Any]:
    return {
        "task": "part_segmentation",
        "test_instance_iou": None,  # unless it is measured
        "val_instance_iou": val.instance_iou if val else None,
        f"{split}_instance_iou": scores.instance_iou,
        f"{split}_class_iou": scores.class_iou,
        f"{split}_accuracy": scores.accuracy,
        f"{split}_mean_class_accuracy": scores.mean_class_accuracy,
        f"{split}_category_iou": scores.category_iou,
        f"{split}_part_iou": by_part_name(scores.part_iou, parts),
        "part_names": list(parts.names),
    }
