"""What ``metrics.json`` of a fine-tuning run holds, of one seed and of several."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.data import ShapeData
from pointpeft.files import replacing
from pointpeft.measure.records import peak_memory_bytes, versions
from pointpeft.peft import PeftModel
from pointpeft.peft.saving import copy_adapter
from pointpeft.progress import Meter
from pointpeft.tasks.task import Task
from pointpeft.training.config import VALIDATION_BATCH
from pointpeft.training.processes import is_first_process
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.run_folder import RunFolder

__all__ = ["measure", "summarize"]

log = logging.getLogger("pointpeft")

_VOTED = ("test_vote_accuracy", "training_vote_accuracy")
_OF_ONE_SEED = ("test_vote_accuracies", "training_vote_epoch")


def measure(
    model: PeftModel, resolved: ResolvedRun, data: ShapeData, run: RunFolder, seconds: float | None
) -> dict[str, Any]:
    """What ``metrics.json`` of one seed holds: the model measured, and how it came about.

    Its adapter is saved in ``run`` already. ``seconds`` are those of an epoch.
    """
    config, task = resolved.config, resolved.task
    counts = model.count_parameters()
    weights = run.adapter / "adapter_model.safetensors"
    ranks_by = task.ranks_by(config, data)
    selection = "last epoch: there is no validation split"
    if resolved.method.fitted:
        selection = "nothing is trained, so no epoch is chosen"
    elif len(data.val):
        selection = resolved.protocol.selection
        if ranks_by != task.headline:
            selection = f"{selection}, by {ranks_by.replace('_', ' ')}"
    metrics = {
        "task": task.name,
        "method": model.config.method,
        "model": config.model,
        "data": config.data.source,
        "data_title": data.title,
        "seed": config.seed,
        **task.measure(model, data, VALIDATION_BATCH * config.trainer.batch_size),
        **_votes(model, data, resolved),
        "trainable_parameters": counts["trainable"],
        "trainable_parameters_without_head": counts["trainable_without_head"],
        "total_parameters": counts["total"],
        "stored_bytes": weights.stat().st_size,
        "seconds_per_epoch": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "train_items": len(data.train),
        **({"val_items": len(data.val)} if data.selects_on == "val" else {}),
        "test_items": len(data.test),
        "selection": selection,
        "ranked_by": f"{data.selects_on}_{ranks_by}",
        "notes": list(data.notes),
        "skipped": [f"{p.item}: {p.reason}" for p in data.problems],
        "versions": versions(),
    }
    return metrics | task.intervals(metrics)


def _votes(model: PeftModel, data: ShapeData, resolved: ResolvedRun) -> dict[str, Any]:
    """Accuracy on the test split by voting, where it is asked for."""
    config = resolved.config
    if not config.votes or not len(data.test):
        return {}
    num_points = data.transform.num_points
    with Meter("voting") as meter:
        voted = resolved.protocol.votes(
            model, data.test, num_points, config.votes, config.seed, meter.update
        )
    return {f"test_{key}": value for key, value in voted.items()}


def summarize(
    results: list[dict[str, Any]], folders: list[Path], run: RunFolder, task: Task
) -> dict[str, Any]:
    """Metrics of several seeds: of the best one, and lists, means and deviations of all.

    Which one is the best is measured on the split that also selects epochs. Its adapter is copied
    to the top; ``adapter_from`` names its folder, and ``best_epoch`` is its epoch.
    """
    val, test = f"val_{task.headline}", f"test_{task.headline}"
    older = val if val in results[0] else test  # runs that do not say it
    ranking = results[0].get("ranked_by", older)
    best = max(range(len(results)), key=lambda i: results[i][ranking] or 0.0)
    if is_first_process():
        _take_over(folders[best], run)
    log.info(
        "%s is the adapter of seed %d, the best of %d by %s",
        run.adapter, results[best]["seed"], len(results), ranking,
    )  # fmt: skip
    summary = dict(results[best])
    for key in ("seed", *task.of_one_seed, *_OF_ONE_SEED):
        if key in summary:
            summary[f"best_{key}"] = summary.pop(key)
    for key in dict.fromkeys((test, val, ranking, *task.averaged, *_VOTED, "seconds_per_epoch")):
        if not any(key in result for result in results):
            continue
        each = [result.get(key) for result in results]
        summary[f"{key}_per_seed"] = each  # in the order of the seeds
        values = [value for value in each if value is not None]
        if values:
            summary[key] = summary[f"{key}_mean"] = float(np.mean(values))
            several = len(values) > 1  # a single value has no deviation
            summary[f"{key}_std"] = float(np.std(values, ddof=1)) if several else None
    summary["peak_memory_bytes"] = max(result["peak_memory_bytes"] for result in results)
    summary["seeds"] = [result["seed"] for result in results]
    summary["adapter_from"] = folders[best].name
    return summary | task.intervals(summary)


def _take_over(folder: Path, run: RunFolder) -> None:
    """Copy the adapters of one seed, and the encoder if it lies beside them, into the whole run."""
    chosen = RunFolder(folder)
    if chosen.backbone.is_file():
        with replacing(run.backbone) as temporary:
            shutil.copy2(chosen.backbone, temporary)
    copy_adapter(chosen.adapter, run.adapter)
    if chosen.best_vote_adapter.is_dir():
        copy_adapter(chosen.best_vote_adapter, run.best_vote_adapter)
