"""Measuring a saved adapter on labelled data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.data import ShapeData, ShapeSplit, load_shapes
from pointpeft.data.published.protocol import load_as_published
from pointpeft.errors import ConfigError, DataError
from pointpeft.evaluation.analysis import analyse_adapter
from pointpeft.evaluation.classification import Scores, classify, score
from pointpeft.evaluation.predictor import LoadedAdapter
from pointpeft.evaluation.records import (
    output_folder,
    peak_memory_bytes,
    versions,
)
from pointpeft.evaluation.report import write_run_report
from pointpeft.evaluation.segmentation import SegmentationScores, score_segmenter
from pointpeft.evaluation.voting import measure_votes
from pointpeft.files import write_json
from pointpeft.peft import resolve_adapter
from pointpeft.peft.saving import WEIGHTS

__all__ = ["choose_device", "evaluate_adapter"]


def choose_device(name: str) -> str:
    """A torch device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no usable GPU was found; use --device cpu")
    return name


def evaluate_adapter(
    folder: str | Path,
    source: str,
    output: str | Path,
    split: str | None = None,
    checkpoint: str | Path | None = None,
    up_axis: str | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    variant: str | None = None,
    votes: int = 0,
    protocol: str = "honest",
) -> dict[str, Any]:
    """Accuracy of an adapter, over all items and per class; written with a report.

    Of a part-segmentation adapter, mean IoU and accuracy of points, without a report.

    Args:
        folder: adapter or run folder.
        source: labelled data, as for training; its classes must be known to the adapter.
        output: folder for ``metrics.json`` and, of a classifier, ``analysis.json`` and
            ``report.html``.
        split: which part to measure: "train", "val", "test" or "all". By default the test part; of
            other data than the adapter was trained on, without a stated test part, every item.
        checkpoint: weights of the encoder, if not where the adapter says.
        up_axis: axis of the files that points up, if not as in training.
        device: "auto", "cpu" or "cuda".
        progress: called with (done, total) while shapes are read.
        variant: name of a published data set, where ``source`` holds several.
        votes: measure a classifier by voting too, see
            :func:`pointpeft.evaluation.voting.measure_votes`.
        protocol: "published" reads published data sets and votes as the published code does.
    """
    if (Path(output) / "config.yaml").exists():
        raise ConfigError(f"--output {output} holds a training run; name another folder")
    if protocol not in ("honest", "published"):
        raise ConfigError(f"protocol must be honest or published, got {protocol!r}")
    adapter = LoadedAdapter(folder, checkpoint, up_axis, choose_device(device))
    if votes < 0 or (votes and adapter.parts is not None):
        raise ConfigError(f"votes={votes}: classifiers alone vote, with one view or more")
    data = None
    if protocol == "published":
        data = load_as_published(source, variant, adapter.transform)
        _check_classes(data, adapter)
    data = data or load_shapes(
        source,
        adapter.transform,
        variant=variant,
        class_names=adapter.class_names,
        segmented=adapter.parts is not None,
        parts=adapter.parts,
        progress=progress,
        **_cut(adapter, source),
    )
    # Of new data all is a test; of the data trained on, only what was kept apart.
    whole = not len(data.test) and not _trained_on(adapter, source)
    measured = split or ("all" if whole else "test")
    split = split or "test"
    part = _part(data, source, measured)
    metrics: dict[str, Any] = {"adapter": str(folder), "data": source, "split": split}
    metrics |= _measure(adapter, data, part, split)
    if votes:
        num_points = adapter.transform.num_points
        voted = measure_votes(adapter.model, part, num_points, votes, protocol)
        metrics |= {f"{split}_{key}": value for key, value in voted.items()}
    metrics["stored_bytes"] = (resolve_adapter(folder) / WEIGHTS).stat().st_size
    write_json(output_folder(output) / "metrics.json", metrics)
    if adapter.parts is None:
        # Of other data the train part is nothing that the adapter has seen.
        seen = data.train if _trained_on(adapter, source) else data.train.subset([])
        analysis = analyse_adapter(folder, seen, part, split, checkpoint, adapter.device)
        write_run_report(output, analysis)
    return metrics


def _measure(
    adapter: LoadedAdapter, data: ShapeData, part: ShapeSplit, split: str
) -> dict[str, Any]:
    start = time.perf_counter()
    scores = _scores(adapter, part)
    seconds = time.perf_counter() - start
    val = _scores(adapter, data.val) if len(data.val) else None
    return {
        "method": adapter.model.config.method,
        "model": adapter.model.base_spec.name,
        **(_class_metrics if adapter.parts is None else _part_metrics)(scores, val, split),
        "part_names": list(adapter.parts.names) if adapter.parts else None,
        f"{split}_items": len(part),
        "trainable_parameters": adapter.model.count_parameters()["trainable"],
        "seconds_per_epoch": seconds,  # one pass over the measured split
        "peak_memory_bytes": peak_memory_bytes(),
        "class_names": list(adapter.class_names),
        "class_items": np.bincount(part.labels, minlength=len(adapter.class_names)).tolist(),
        "notes": list(data.notes),
        "skipped": [f"{p.item}: {p.reason}" for p in data.problems],
        "versions": versions(),
    }


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
    scores: SegmentationScores, val: SegmentationScores | None, split: str
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
    }


def _check_classes(data: ShapeData | None, adapter: LoadedAdapter) -> None:
    """Refuse data of other classes: as published, labels are numbers of all classes of the set."""
    if data is not None and data.class_names != tuple(adapter.class_names):
        raise DataError(
            f"the adapter knows the classes {', '.join(adapter.class_names)}; the data set has "
            f"{', '.join(data.class_names)}: measure it with protocol honest"
        )


def _trained_on(adapter: LoadedAdapter, source: str) -> bool:
    return adapter.source in (source, str(Path(source).resolve()))


def _cut(adapter: LoadedAdapter, source: str) -> dict[str, Any]:
    """Data without stated parts is cut as it was for training; other data is not cut."""
    return adapter.split if _trained_on(adapter, source) else {"val_fraction": 0.0}


def _part(data: ShapeData, source: str, split: str) -> ShapeSplit:
    parts = {"train": data.train, "val": data.val, "test": data.test}
    if split == "all":
        whole = parts.values()
        return ShapeSplit(
            np.concatenate([part.points for part in whole]),
            np.concatenate([part.labels for part in whole]),
            tuple(name for part in whole for name in part.ids),
            None if data.train.seg is None else np.concatenate([part.seg for part in whole]),
        )
    if split not in parts:
        raise ConfigError(f"split must be train, val, test or all, got {split!r}")
    if not len(parts[split]):
        raise DataError(f"{source} has no {split} split; measure another one, or all of it")
    return parts[split]


def _scores(adapter: LoadedAdapter, part: ShapeSplit) -> Any:
    """Scores of a classifier or of a part segmenter."""
    num_points = adapter.transform.num_points
    if adapter.parts is not None:
        return score_segmenter(adapter.model, part, adapter.parts, num_points)
    points = torch.from_numpy(part.points)[:, :num_points]
    predictions = classify(adapter.model, points).argmax(1).numpy()
    return score(predictions, part.labels, len(adapter.class_names))
