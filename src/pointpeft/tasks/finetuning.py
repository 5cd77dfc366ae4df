"""Adapting a backbone to labelled shapes: data in, run folder out."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from pointpeft.data import InputTransform, ShapeData, ShapeSplit, load_shapes
from pointpeft.data.transforms import recipe
from pointpeft.errors import DataError
from pointpeft.evaluation.analysis import analyse_adapter
from pointpeft.evaluation.classification import Scores, classify, score
from pointpeft.evaluation.evaluate import choose_device
from pointpeft.evaluation.records import peak_memory_bytes, versions
from pointpeft.evaluation.report import write_run_report
from pointpeft.evaluation.report.page import REPORT
from pointpeft.files import write_json
from pointpeft.models import create_model, save_model
from pointpeft.models.factory import build_classifier, has_embedded_weights
from pointpeft.peft import MemoryBank, PeftModel, config_class, get_peft_model
from pointpeft.tasks.callbacks import EpochTimer, History, ProgressBar
from pointpeft.tasks.classification import ClassificationTask
from pointpeft.tasks.config import DataConfig, FinetuneConfig
from pointpeft.tasks.datamodule import ShapeDataModule, cloud_loader
from pointpeft.tasks.runs import RunFolder, fit, make_trainer

__all__ = ["finetune", "load_data", "make_backbone"]

log = logging.getLogger("pointpeft")

EMBEDDED = "embedded"
RANDOM = "random"
"""Values of ``checkpoint`` that name no file."""
RANDOM_WEIGHTS = "backbone.safetensors"  # of an encoder that came from nowhere
_SHOWN = [("train_loss", "loss", ".3f"), ("val_accuracy", "val", ".1%")]


def finetune(
    config: FinetuneConfig,
    output: str | Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Adapt a backbone to a labelled data set and write a run folder.

    The checkpoint is chosen on the validation split; the test split is used once, at the end.

    Args:
        config: all settings.
        output: run folder; with several seeds each gets a sub-folder ``seed<N>``.
        resume: continue an interrupted run in ``output``.
        progress: called with (done, total) while shapes are read.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: inconsistent settings.
        DataError: unusable data.
        CheckpointError: weights that do not fit.
    """
    settings = config_class(config.method).from_dict(config.peft)  # fail before reading data
    if config.optimizer.lr is None:
        optimizer = replace(config.optimizer, lr=settings.learning_rate)
        config = replace(config, optimizer=optimizer)
    run = RunFolder(output)
    run.prepare(config, resume)
    report = run.path / REPORT
    finished = run.finished_metrics(config) if resume else None
    if finished and report.is_file():
        return finished
    with run.logging():
        data = _prepare(config, progress)
        if finished:  # but it was stopped before its report was written
            _report(config, data, run)
            return finished
        report.unlink(missing_ok=True)  # of fewer epochs, if there is one
        run.begin(config)
        jobs = {run.path: config.seed}
        if config.seeds > 1:
            jobs = {
                run.path / f"seed{s}": s for s in range(config.seed, config.seed + config.seeds)
            }
        results = [
            _one_seed(
                replace(config, seed=seed, seeds=1), settings, data, RunFolder(folder), resume
            )
            for folder, seed in jobs.items()
        ]
        metrics = results[0] if config.seeds == 1 else _summary(results, list(jobs), run)
        write_json(run.metrics, metrics)
        _report(config, data, run)
    return metrics


def _prepare(config: FinetuneConfig, progress: Callable[[int, int], None] | None) -> ShapeData:
    """Read the data, and refuse or warn of what cannot give a good classifier."""
    backbone, source = make_backbone(config)
    if source is None:
        log.warning(
            "%s starts from random weights; pre-train with `pointpeft pretrain` and pass "
            "--checkpoint for better results",
            config.model,
        )
    data = load_data(config.data, backbone.spec.num_points, progress)
    if len(data.class_names) < 2:
        raise DataError(
            f"{config.data.source} has one class, {data.class_names[0]!r}; classification "
            "needs two classes or more"
        )
    return data


def make_backbone(config: Any) -> tuple[Any, str | None]:
    """The encoder of a config with its weights, and where they came from; None: from nowhere.

    Without a checkpoint the weights shipped for the model are used, if there are any and its sizes
    are not changed; the checkpoint "random" asks for none.
    """
    path = None if config.checkpoint == RANDOM else config.checkpoint
    use_embedded = (
        config.checkpoint is None
        and not config.preset
        and not config.backbone
        and has_embedded_weights(config.model)
    )
    backbone = create_model(
        config.model,
        preset=config.preset,
        checkpoint=path,
        pretrained=use_embedded,
        **config.backbone,
    )
    if path is not None:
        return backbone, str(Path(path).resolve())
    return backbone, EMBEDDED if use_embedded else None


def load_data(
    config: DataConfig,
    num_points: int,
    progress: Callable[[int, int], None] | None = None,
    class_names: tuple[str, ...] | None = None,
    needed: tuple[str, ...] = ("test", "val"),
) -> ShapeData:
    """Read and prepare the labelled data set of a config, logging notes and problems."""
    transform = InputTransform(
        num_points=num_points if config.num_points is None else config.num_points,
        normalize=config.normalize,  # type: ignore[arg-type]
        up_axis=config.up_axis,  # type: ignore[arg-type]
    )
    data = load_shapes(
        config.source,
        transform,
        on_error=config.on_error,  # type: ignore[arg-type]
        val_fraction=config.val_fraction,
        needed=needed,
        seed=config.seed,
        class_names=class_names,
        progress=progress,
    )
    for note in data.notes:
        log.info("%s: %s", config.source, note)
    for problem in data.problems:
        log.warning("skipped %s: %s", problem.item, problem.reason)
    return data


def _one_seed(
    config: FinetuneConfig,
    settings: Any,
    data: ShapeData,
    run: RunFolder,
    resume: bool,
) -> dict[str, Any]:
    seed = config.seed
    if resume and (finished := run.finished_metrics(config)):
        return finished
    run.begin(config)
    L.seed_everything(seed, verbose=False)
    backbone, source = make_backbone(config)
    if source is None:  # random weights exist nowhere else
        save_model(backbone, run.path / RANDOM_WEIGHTS)
        source = f"../{RANDOM_WEIGHTS}"
    bank = _build_bank(backbone, data, config.trainer.batch_size) if settings.uses_bank else None
    model = get_peft_model(build_classifier(backbone, len(data.class_names)), settings, bank)
    model.class_names, model.base_checkpoint = data.class_names, source
    model.input = _describe_input(data, config.data)

    num_points = data.transform.num_points
    task = ClassificationTask(model, config.optimizer, recipe(config.data.augmentation, num_points))
    timer = EpochTimer()
    title = f"{config.method} seed {seed}"
    trainer = make_trainer(
        config.trainer,
        run,
        seed,
        [History(run.history), timer, ProgressBar(title, _SHOWN)],
        monitor="val_score" if len(data.val) else None,
        grad_clip=config.optimizer.grad_clip,
    )
    modules = ShapeDataModule(
        data.train, data.val, num_points, config.trainer.batch_size,
        config.trainer.num_workers, seed,
    )  # fmt: skip
    fit(trainer, task, modules, run.resume_from if resume else None)
    task.load_best(run.best if len(data.val) else run.last)
    model.save_pretrained(run.adapter)
    metrics = _measure(model, data, config, seed, run, timer)
    write_json(run.metrics, metrics)
    return metrics


def _build_bank(backbone: Any, data: ShapeData, batch_size: int) -> MemoryBank:
    loader = cloud_loader(data.train, data.transform.num_points, batch_size)
    bank = MemoryBank.build(backbone, ({**b, "id": ids} for b, ids in _with_ids(loader, data)))
    log.info("memory bank: %d items of %d channels", len(bank), bank.features.shape[0])
    return bank


def _with_ids(loader: Any, data: ShapeData) -> Any:
    for batch in loader:
        yield batch, [data.train.ids[i] for i in batch["index"].tolist()]


def _describe_input(data: ShapeData, config: DataConfig) -> dict[str, Any]:
    """What an adapter remembers of its training input."""
    return {
        "transform": data.transform.to_dict(),
        "statistics": data.statistics.to_dict() if data.statistics else None,
        "source": str(Path(config.source).resolve()),
        "split": {"seed": config.seed, "val_fraction": config.val_fraction},
    }


def _measure(
    model: PeftModel,
    data: ShapeData,
    config: FinetuneConfig,
    seed: int,
    run: RunFolder,
    timer: EpochTimer,
) -> dict[str, Any]:
    val, test = (evaluate_split(model, split) for split in (data.val, data.test))
    counts = model.count_parameters()
    weights = run.adapter / "adapter_model.safetensors"
    return {
        "method": config.method,
        "model": config.model,
        "data": config.data.source,
        "seed": seed,
        "test_accuracy": test.accuracy if test else None,
        "test_mean_class_accuracy": test.mean_class_accuracy if test else None,
        "val_accuracy": val.accuracy if val else None,
        "trainable_parameters": counts["trainable"],
        "trainable_parameters_without_head": counts["trainable_without_head"],
        "total_parameters": counts["total"],
        "stored_bytes": weights.stat().st_size,
        "seconds_per_epoch": timer.median,
        "peak_memory_bytes": peak_memory_bytes(),
        "train_items": len(data.train),
        "val_items": len(data.val),
        "test_items": len(data.test),
        "selection": "validation split" if val else "last epoch: there is no validation split",
        "class_names": list(data.class_names),
        "confusion": test.confusion.tolist() if test else None,
        "notes": list(data.notes),
        "skipped": [f"{p.item}: {p.reason}" for p in data.problems],
        "versions": versions(),
    }


def evaluate_split(model: PeftModel, split: ShapeSplit) -> Scores | None:
    """Scores on a labelled split; None when it is empty."""
    if not len(split):
        return None
    transform = (model.input or {}).get("transform")
    if transform is None:
        raise DataError("the model does not say how its input is prepared")
    points = torch.from_numpy(split.points)[:, : transform["num_points"]]
    predictions = classify(model, points).argmax(1).numpy()
    return score(predictions, split.labels, model.model.num_classes)


def _report(config: FinetuneConfig, data: ShapeData, run: RunFolder) -> None:
    """Analyse the adapter of a run, the best seed's if there are several, and write the page."""
    part, held_out = ("test", data.test) if len(data.test) else ("validation", data.val)
    device = "cpu" if config.trainer.accelerator == "cpu" else choose_device("auto")
    analysis = analyse_adapter(run.path, data.train, held_out, part, device=device)
    write_run_report(run.path, analysis)


def _summary(results: list[dict[str, Any]], folders: list[Path], run: RunFolder) -> dict[str, Any]:
    """Metrics of several seeds: of the best one by validation, with lists, mean and deviation."""
    best = max(range(len(results)), key=lambda i: results[i]["val_accuracy"] or 0.0)
    shutil.copytree(folders[best] / "adapter", run.adapter, dirs_exist_ok=True)
    if (weights := folders[best] / RANDOM_WEIGHTS).is_file():
        shutil.copy2(weights, run.path)
    summary = dict(results[best])
    for key in ("seed", "confusion", "test_mean_class_accuracy"):  # of the best seed alone
        summary[f"best_{key}"] = summary.pop(key)
    for key in ("test_accuracy", "val_accuracy", "seconds_per_epoch"):
        values = [result[key] for result in results if result[key] is not None]
        summary[f"{key}_per_seed"] = values
        if values:
            summary[key] = summary[f"{key}_mean"] = float(np.mean(values))
            summary[f"{key}_std"] = float(np.std(values, ddof=1))
    summary["peak_memory_bytes"] = max(result["peak_memory_bytes"] for result in results)
    summary["seeds"] = [result["seed"] for result in results]
    summary["adapter_from"] = folders[best].name
    return summary
