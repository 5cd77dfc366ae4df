"""Measuring a saved adapter on labelled data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.data import ShapeData, ShapeSplit, load_shapes
from pointpeft.data.published.protocol import load_as_published
from pointpeft.data.splits import split_digest
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.evaluation.analysis import Outputs, analyse_change, model_outputs
from pointpeft.evaluation.classification import Scores, score
from pointpeft.evaluation.config import EvaluateConfig
from pointpeft.evaluation.predictor import LoadedAdapter
from pointpeft.evaluation.records import (
    check_output,
    peak_memory_bytes,
    versions,
    write_measurement,
)
from pointpeft.evaluation.report import write_run_report
from pointpeft.evaluation.segmentation import SegmentationScores, score_segmenter
from pointpeft.evaluation.voting import measure_votes
from pointpeft.peft import resolve_adapter
from pointpeft.peft.saving import WEIGHTS

__all__ = ["choose_device", "evaluate_adapter"]

_CUT = ("seed", "val_fraction")
"""What an adapter says of how its data was cut."""
_DIGEST = "digest"
"""What it may say beside it: hashes of the shapes' names by split, to tell a change of the data."""


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


def evaluate_adapter(
    folder: str | Path,
    source: str,
    output: str | Path,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Accuracy of an adapter, over all items and per class; written with a report.

    Of a part-segmentation adapter, mean IoU and accuracy of points, without a report.

    Args:
        folder: adapter or run folder.
        source: labelled data, as for training; its classes must be known to the adapter.
        output: folder for ``config.yaml``, ``metrics.json`` and ``log.txt`` and, of a classifier,
            ``analysis.json`` and ``report.html``.
        progress: called with (done, total) while shapes are read.
        settings: others of :class:`EvaluateConfig`, such as ``split``.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: a setting cannot be had, or ``output`` is a file or holds another run.
        DataError: unusable data, none of it in the split, or of other classes.
        CheckpointError: no adapter, or weights that do not fit.
    """
    config = EvaluateConfig(str(folder), source, **settings)
    check_output(output, EvaluateConfig)
    device = choose_device(config.device)
    adapter = LoadedAdapter(folder, config.checkpoint, config.up_axis, device)
    if config.votes and adapter.parts is not None:
        raise ConfigError(f"votes={config.votes}: classifiers alone vote")
    data = _read(config, adapter, progress)
    part, split = _choose(config, adapter, data)
    metrics, outputs = _measure(config, adapter, data, part, split)
    write_measurement(output, config, metrics)
    if outputs is not None:
        # Of other data the train part is nothing that the adapter has seen.
        seen = data.train if _trained_on(adapter, source) else data.train.subset([])
        analysis = analyse_change(adapter.backbone, adapter.model, seen, part, split, outputs)
        write_run_report(output, analysis)
    return metrics


# Data --------------------------------------------------------------------------------------------


def _read(
    config: EvaluateConfig,
    adapter: LoadedAdapter,
    progress: Callable[[int, int], None] | None,
) -> ShapeData:
    if config.protocol == "published":
        data = load_as_published(
            config.data, config.variant, adapter.transform, seed=config.seed,
            segmented=adapter.parts is not None, progress=progress,
        )  # fmt: skip
        if data is not None:
            _check_classes(data, adapter)
            return data
    return load_shapes(
        config.data,
        adapter.transform,
        variant=config.variant,
        class_names=adapter.class_names,
        segmented=adapter.parts is not None,
        parts=adapter.parts,
        progress=progress,
        **_cut(config, adapter),
    )


def _check_classes(data: ShapeData, adapter: LoadedAdapter) -> None:
    """Refuse data of other classes: as published, labels are numbers of all classes of the set.

    A model may have more outputs than that: published Point-BERT has 40 on ScanObjectNN.
    """
    if data.class_names != adapter.class_names[: len(data.class_names)]:
        raise DataError(
            f"the adapter knows the classes {', '.join(adapter.class_names)}; the data set has "
            f"{', '.join(data.class_names)}: measure it with protocol honest"
        )


def _trained_on(adapter: LoadedAdapter, source: str) -> bool:
    return adapter.source in (source, str(Path(source).resolve()))


def _cut(config: EvaluateConfig, adapter: LoadedAdapter) -> dict[str, Any]:
    """Data without stated parts is cut as it was for training; other data is not cut.

    Raises:
        CheckpointError: the adapter says it in another way than ours do.
    """
    if not _trained_on(adapter, config.data):
        return {"val_fraction": 0.0}
    cut = adapter.split
    if (
        not isinstance(cut, dict)
        or set(cut) - {_DIGEST} != set(_CUT)
        or not isinstance(cut.get(_DIGEST, {}), dict)
    ):
        raise CheckpointError(
            f"the adapter in {config.adapter} is damaged: the `split` of its input must state "
            f"{' and '.join(_CUT)} alone, beside a table `{_DIGEST}` that may be there, got {cut!r}"
        )
    return {key: cut[key] for key in _CUT}


def _choose(
    config: EvaluateConfig, adapter: LoadedAdapter, data: ShapeData
) -> tuple[ShapeSplit, str]:
    """The shapes to measure, and what they are called."""
    # Of new data all is a test; of the data trained on, only what was kept apart.
    if config.split is None and not len(data.test) and not _trained_on(adapter, config.data):
        return _whole(data), "test"
    split = config.split or "test"
    if split == "all":
        return _whole(data), split
    part: ShapeSplit = getattr(data, split)
    if not len(part):
        raise DataError(f"{config.data} has no {split} split; measure another one, or all of it")
    if split != "train" and _trained_on(adapter, config.data):
        _check_unseen(config, adapter, part, split, split in data.cut)
    return part, split


def _check_unseen(
    config: EvaluateConfig, adapter: LoadedAdapter, part: ShapeSplit, split: str, is_cut: bool
) -> None:
    """Refuse to call shapes a test that the adapter was trained on.

    A memory bank, made of training shapes, names them. Without one, a split that is cut from the
    data must hold the very shapes that were kept apart in training.
    """
    bank = adapter.model.bank
    seen = sorted(set(part.ids) & set(bank.ids)) if bank is not None else []
    kept = adapter.split.get(_DIGEST) if is_cut else None
    if seen:
        trained = (
            f"{len(seen)} of the {len(part)} shapes that would be measured, such as {seen[0]}, "
            "were trained on"
        )
    elif kept and kept.get(split) != split_digest(part.ids):
        trained = (
            f"the {len(part)} shapes that would be measured are not those that were kept apart, "
            "so some of them may have been trained on"
        )
    else:
        return
    raise DataError(
        f"{config.data} has changed since the adapter was trained on it: {trained}; restore it, or "
        "measure shapes of another folder"
    )


def _whole(data: ShapeData) -> ShapeSplit:
    parts = (data.train, data.val, data.test)
    return ShapeSplit(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(name for part in parts for name in part.ids),
        None if data.train.seg is None else np.concatenate([part.seg for part in parts]),
    )


# Metrics -----------------------------------------------------------------------------------------


def _measure(
    config: EvaluateConfig, adapter: LoadedAdapter, data: ShapeData, part: ShapeSplit, split: str
) -> tuple[dict[str, Any], Outputs | None]:
    """What ``metrics.json`` holds, and what a classifier made of the shapes."""
    start = time.perf_counter()
    scores, outputs = _scores(adapter, part)
    seconds = time.perf_counter() - start
    val = None
    if len(data.val) and data.val is not data.test:  # as published they are the same
        val = scores if data.val is part else _scores(adapter, data.val)[0]
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
        **(_class_metrics if adapter.parts is None else _part_metrics)(scores, val, split),
        "part_names": list(adapter.parts.names) if adapter.parts else None,
        f"{split}_items": len(part),
        "trainable_parameters": model.count_parameters()["trainable"],
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "class_names": list(adapter.class_names),
        "class_items": np.bincount(part.labels, minlength=len(adapter.class_names)).tolist(),
        "notes": list(data.notes),
        "skipped": [f"{p.item}: {p.reason}" for p in data.problems],
        "stored_bytes": (resolve_adapter(config.adapter) / WEIGHTS).stat().st_size,
        "versions": versions(),
    }
    if config.votes:
        num_points = adapter.transform.num_points
        voted = measure_votes(model, part, num_points, config.votes, config.protocol, config.seed)
        metrics |= {f"{split}_{key}": value for key, value in voted.items()}
    return metrics, outputs


def _scores(adapter: LoadedAdapter, part: ShapeSplit) -> tuple[Any, Outputs | None]:
    """Scores of a classifier with its outputs, or of a part segmenter."""
    num_points = adapter.transform.num_points
    if adapter.parts is not None:
        return score_segmenter(adapter.model, part, adapter.parts, num_points), None
    outputs = model_outputs(adapter.model, torch.from_numpy(part.points)[:, :num_points])
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
