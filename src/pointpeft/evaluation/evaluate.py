"""Measuring a saved adapter on labelled data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.data import ShapeData, ShapeSplit, load_shapes
from pointpeft.errors import ConfigError, DataError
from pointpeft.evaluation.analysis import analyse_adapter
from pointpeft.evaluation.classification import Scores, classify, score
from pointpeft.evaluation.predictor import Predictor
from pointpeft.evaluation.records import (
    output_folder,
    peak_memory_bytes,
    versions,
)
from pointpeft.evaluation.report import write_run_report
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
) -> dict[str, Any]:
    """Accuracy of an adapter, over all items and per class; written with a report.

    Args:
        folder: adapter or run folder.
        source: labelled data, as for training; its classes must be known to the adapter.
        output: folder for ``metrics.json``, ``analysis.json`` and ``report.html``.
        split: which part to measure: "train", "val", "test" or "all". By default the test part; of
            other data than the adapter was trained on, without a stated test part, every item.
        checkpoint: weights of the encoder, if not where the adapter says.
        up_axis: axis of the files that points up, if not as in training.
        device: "auto", "cpu" or "cuda".
        progress: called with (done, total) while shapes are read.
    """
    if (Path(output) / "config.yaml").exists():
        raise ConfigError(f"--output {output} holds a training run; name another folder")
    predictor = Predictor(folder, checkpoint, up_axis, choose_device(device))
    data = load_shapes(
        source,
        predictor.transform,
        class_names=predictor.class_names,
        progress=progress,
        **_cut(predictor, source),
    )
    measured = split or ("test" if len(data.test) else "all")
    split = split or "test"
    part = _part(data, source, measured)
    metrics: dict[str, Any] = {"adapter": str(folder), "data": source, "split": split}
    metrics |= _measure(predictor, data, part, split)
    metrics["stored_bytes"] = (resolve_adapter(folder) / WEIGHTS).stat().st_size
    write_json(output_folder(output) / "metrics.json", metrics)
    # Of other data the train part is nothing that the adapter has seen.
    seen = data.train if _trained_on(predictor, source) else data.train.subset([])
    analysis = analyse_adapter(folder, seen, part, split, checkpoint, predictor.device)
    write_run_report(output, analysis)
    return metrics


def _measure(predictor: Predictor, data: ShapeData, part: ShapeSplit, split: str) -> dict[str, Any]:
    start = time.perf_counter()
    scores = _scores(predictor, part)
    seconds = time.perf_counter() - start
    return {
        "method": predictor.model.config.method,
        "model": predictor.model.base_spec.name,
        "test_accuracy": None,  # unless it is measured
        "val_accuracy": _scores(predictor, data.val).accuracy if len(data.val) else None,
        f"{split}_accuracy": scores.accuracy,
        f"{split}_mean_class_accuracy": scores.mean_class_accuracy,
        f"{split}_items": int(scores.confusion.sum()),
        "trainable_parameters": predictor.model.count_parameters()["trainable"],
        "seconds_per_epoch": seconds,  # one pass over the measured split
        "peak_memory_bytes": peak_memory_bytes(),
        "class_names": list(predictor.class_names),
        "class_items": scores.confusion.sum(axis=1).tolist(),
        "class_accuracy": [None if np.isnan(v) else float(v) for v in scores.class_accuracy],
        "confusion": scores.confusion.tolist(),
        "notes": list(data.notes),
        "skipped": [f"{p.item}: {p.reason}" for p in data.problems],
        "versions": versions(),
    }


def _trained_on(predictor: Predictor, source: str) -> bool:
    return predictor.source in (source, str(Path(source).resolve()))


def _cut(predictor: Predictor, source: str) -> dict[str, Any]:
    """Data without stated parts is cut as it was for training; other data is not cut."""
    return predictor.split if _trained_on(predictor, source) else {"val_fraction": 0.0}


def _part(data: ShapeData, source: str, split: str) -> ShapeSplit:
    parts = {"train": data.train, "val": data.val, "test": data.test}
    if split == "all":
        whole = parts.values()
        return ShapeSplit(
            np.concatenate([part.points for part in whole]),
            np.concatenate([part.labels for part in whole]),
            tuple(name for part in whole for name in part.ids),
        )
    if split not in parts:
        raise ConfigError(f"split must be train, val, test or all, got {split!r}")
    if not len(parts[split]):
        raise DataError(f"{source} has no {split} split; measure another one, or all of it")
    return parts[split]


def _scores(predictor: Predictor, part: ShapeSplit) -> Scores:
    points = torch.from_numpy(part.points)[:, : predictor.transform.num_points]
    predictions = classify(predictor.model, points).argmax(1).numpy()
    return score(predictions, part.labels, len(predictor.class_names))
