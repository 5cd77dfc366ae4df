"""Measuring a saved adapter on labelled data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pointpeft.compat.protocol import find_protocol
from pointpeft.devices import choose_device
from pointpeft.errors import ConfigError
from pointpeft.measure.analysis import batch_of_run
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.records import (
    EvaluateConfig,
    check_output,
    peak_memory_bytes,
    versions,
    write_measurement,
)
from pointpeft.measure.report import write_run_report
from pointpeft.measure.scores import class_counts
from pointpeft.measure.seen_shapes import Measured, read_measured
from pointpeft.peft import resolve_adapter
from pointpeft.peft.saving import weights_file
from pointpeft.process_state import undisturbed
from pointpeft.progress import Meter
from pointpeft.tasks.table import find_task
from pointpeft.tasks.task import Task

__all__ = ["evaluate_adapter"]


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
    task = find_task(adapter.task)
    if config.votes and not task.votes:
        raise ConfigError(f"votes={config.votes}: classifiers alone vote")
    measured = read_measured(config, adapter, task.segmented, progress)
    metrics, known = _measure(config, task, adapter, measured)
    write_measurement(output, config, metrics)
    analysis = task.analyse(adapter, measured.seen, measured.part, measured.split, known)
    if analysis is not None:
        write_run_report(output, analysis)
    return metrics


def _measure(
    config: EvaluateConfig, task: Task, adapter: LoadedAdapter, measured: Measured
) -> tuple[dict[str, Any], Any]:
    """What ``metrics.json`` holds, and what the task made of the shapes."""
    data, part, split = measured.data, measured.part, measured.split
    start = time.perf_counter()
    size = config.batch_size or batch_of_run(config.adapter)
    scores, known = task.evaluate(adapter, data, part, split, size)
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
        "task": task.name,
        **scores,
        f"{split}_items": len(part),
        "trainable_parameters": model.count_parameters()["trainable"],
        "seconds": time.perf_counter() - start,
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
    return metrics | task.intervals(metrics), known
