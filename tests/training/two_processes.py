"""What the tests of several processes run in each of two; torchrun starts it with a folder.

The same functions run in one process give what to compare with.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pointpeft as pp
from pointpeft.cli import main
from pointpeft.data import ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.errors import DataError
from pointpeft.measure import classify, score
from pointpeft.peft import config_class
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.tasks.part_segmentation import SegmentationModule
from pointpeft.training import FinetuneConfig, PretrainConfig, finetune, load_config, pretrain
from pointpeft.training.config import OptimizerConfig, TrainerConfig
from pointpeft.training.engine import fit, make_trainer
from pointpeft.training.loaders import ShapeDataModule
from pointpeft.training.optimizer import Schedule
from pointpeft.training.pretraining import PretrainingModule
from pointpeft.training.processes import Share
from pointpeft.training.run_folder import RunFolder
from tests.models.tiny import clouds, tiny
from tests.training.parts import DEPTH
from tests.training.support import TINY, times

CASES = {  # model and method
    "head": ("point_bert_small", "linear"),
    "all": ("point_mae_small", "full"),
    "point-peft": ("point_m2ae_small", "point-peft"),
}
BATCH, VAL = 8, 7
KEYS = 4
TUNING = [*TINY, DEPTH, "task=part_segmentation", "checkpoint=random", "trainer.epochs=2",
          "trainer.batch_size=4", "method=linear", "optimizer.warmup=0"]  # fmt: skip
PRETRAINING = [*TINY, "pretraining.decoder_depth=1", "trainer.epochs=1", "procedural=2"]
STREAMING = ["trainer.epochs=2", "checkpoint_minutes=1e-9"]


class PowerCutError(Exception):
    """What stops a run."""


class Record(L.Callback):
    """Keeps the first gradient and, at the end, the metrics."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}
        self.metrics: dict[str, float] = {}

    def on_before_optimizer_step(self, trainer: Any, task: Any, optimizer: Any) -> None:
        if not self.gradients:
            named = task.named_parameters()
            self.gradients = {name: p.grad.clone() for name, p in named if p.requires_grad}

    def on_train_epoch_end(self, trainer: Any, task: Any) -> None:
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}


def one_step(case: str, folder: Path) -> dict[str, Any]:
    """Gradients of a training step on one batch, metrics of that epoch, and confusion after it."""
    name, method = CASES[case]
    torch.manual_seed(0)
    model = tiny("classification", name, drop_path=0.0)
    model = pp.get_peft_model(model, config_class(method)())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for child, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm1d):  # its statistics are those of a process
                setattr(module, child, nn.Identity())
    record = Record()
    config = TrainerConfig(epochs=1, accelerator="cpu")
    trainer = make_trainer(config, RunFolder(folder / case), 0, [record], None, None)
    task = ClassificationModule(model, Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe("none", 64))
    val = split(VAL, 1)
    fit(trainer, task, ShapeDataModule(split(BATCH), val, 64, BATCH, share=Share.of(trainer)), None)
    predicted = classify(model, torch.from_numpy(val.points)).argmax(1).numpy()
    confusion = torch.from_numpy(score(predicted, val.labels, 4).confusion)
    return {"gradients": record.gradients, "metrics": record.metrics, "confusion": confusion}


def published_steps(folder: Path) -> None:
    """Two epochs of Point-PEFT as published, some parameters of which never have a gradient."""
    model = tiny("classification", "point_mae_small")
    model = pp.get_peft_model(model, pp.PointPeftConfig(prompt_blocks=1, reference_compat=True))
    config, idle = TrainerConfig(epochs=2, accelerator="cpu"), model.tuner.leaves_idle
    run = RunFolder(folder / "published")
    trainer = make_trainer(config, run, 0, [], None, None, idle_parameters=idle)
    task = ClassificationModule(model, Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe("none", 64))
    data = ShapeDataModule(split(BATCH), split(VAL, 1), 64, BATCH, share=Share.of(trainer))
    fit(trainer, task, data, None)


def split(count: int, seed: int = 0) -> ShapeSplit:
    """Clouds of four classes."""
    labels = np.arange(count, dtype=np.int64) % 4
    return ShapeSplit(clouds(count, 64, seed).numpy(), labels, tuple(map(str, range(count))))


def queue_after_a_step(share: Share) -> Tensor:
    """Point-BERT's queue once all processes have put in keys of their own clouds."""
    torch.manual_seed(0)
    model = tiny("pretraining", "point_bert")
    masks = (torch.arange(8).expand(KEYS, -1) < 3,) * 3
    mix = torch.full((KEYS,), 0.5), torch.arange(8).expand(KEYS, -1) / 8
    with torch.no_grad():
        model.losses(clouds(2 * KEYS)[share.rank * KEYS :][:KEYS], masks, mix)
    return torch.cat([model.queue.flatten(), model.queue_ptr])


def command(*arguments: str) -> None:
    """A command of the package, in this process."""
    with contextlib.suppress(SystemExit):
        main(list(arguments))


def interrupted_run(settings: list[str], folder: Path) -> None:
    """Stop a run in the middle of its second epoch, and resume it."""
    step = SegmentationModule.training_step

    def failing(self: Any, batch: Any, index: int) -> Tensor:
        if self.trainer.current_epoch == 1 and index == 1:
            raise PowerCutError
        return step(self, batch, index)

    config = load_config(FinetuneConfig, [], settings)
    SegmentationModule.training_step = failing
    with contextlib.suppress(PowerCutError):
        finetune(config, folder)
    SegmentationModule.training_step = step
    finetune(config, folder, resume=True)


def streamed_items(folder: Path) -> dict[str, list[list[int]]]:
    """Items of the steps of a run from shards, and of one that is cut in its second epoch."""
    step, seen = PretrainingModule.training_step, []

    def recording(self: Any, batch: Any, index: int) -> Tensor:
        if self.trainer.current_epoch == cut and index == 2:
            raise PowerCutError
        seen.append(batch["index"].tolist())
        return step(self, batch, index)

    settings = [*PRETRAINING, *STREAMING, f"data.source={folder / 'shards'}"]
    config, found = load_config(PretrainConfig, [], settings), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", recording)
        cut = None
        pretrain(config, folder / "stream")
        found["whole"], cut = seen.copy(), 1
        seen.clear()
        with contextlib.suppress(PowerCutError):
            pretrain(config, folder / "stream-cut")
        cut = None
        pretrain(config, folder / "stream-cut", resume=True)
        found["cut"] = seen
    return found


def run_without_a_step(folder: Path) -> None:
    """A run in which the loss of the second process alone is no number, once."""
    step = PretrainingModule.training_step

    def spoiled(self: Any, batch: Any, index: int) -> Tensor:
        broken = self.global_rank == 1 and (self.current_epoch, index) == (0, 1)
        return times(step(self, batch, index), float("nan") if broken else 1.0)

    settings = [*PRETRAINING, *STREAMING, f"data.source={folder / 'shards'}", "on_fault=skip"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", spoiled)
        pretrain(load_config(PretrainConfig, [], settings), folder / "skipped")


def error_of_a_damaged_shard(folder: Path) -> str:
    """What this process ends with where one of them cannot read its data."""
    source = f"data.source={folder / 'damaged'}"
    settings = [*PRETRAINING, *STREAMING, source, "data.on_error=refuse"]
    with pytest.raises(DataError) as caught:
        pretrain(load_config(PretrainConfig, [], settings), folder / "damaged-run")
    return str(caught.value)


def error_of(settings: list[str], folder: Path, what: str, failing: Any) -> str:
    """What this process ends with when something in the run fails in one of them."""
    config = load_config(FinetuneConfig, [], settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(what, failing)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - told apart in the test
            finetune(config, folder)
    return f"{type(caught.value).__name__}: {caught.value}"


def diverging(step: Any) -> Any:
    """A training step whose loss is no number in the second process alone, in the second epoch."""

    def diverge(self: Any, batch: Any, index: int) -> Tensor:
        loss = step(self, batch, index)
        broken = self.current_epoch == 1 and self.global_rank == 1
        return loss * float("nan") if broken else loss

    return diverge


def full_disk(*_: Any) -> None:
    """What measures and writes in the first process alone."""
    raise OSError("no space left")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, archive = Path(sys.argv[1]), sys.argv[2]
    steps = {case: one_step(case, folder) for case in CASES}
    published_steps(folder)
    share = Share(torch.distributed.get_rank(), 2)
    found = {"steps": steps, "queue": queue_after_a_step(share)}
    torch.save(found, folder / f"{share.rank}.pt")
    settings = [*TUNING, f"data.source={archive}"]
    command("finetune", "--output", str(folder / "whole"), *settings)
    interrupted_run(settings, folder / "cut")
    step = diverging(SegmentationModule.training_step)
    task = "pointpeft.tasks.part_segmentation.SegmentationModule.training_step"
    errors = [
        error_of(settings, folder / "diverged", task, step),
        error_of(settings, folder / "full", "pointpeft.training.run.measure", full_disk),
    ]
    (folder / f"{share.rank}.json").write_text(json.dumps(errors))
    command("pretrain", "--data", archive, "--output", str(folder / "pretrain"), *PRETRAINING)
    items = streamed_items(folder)
    streamed = {**items, "error": error_of_a_damaged_shard(folder)}
    run_without_a_step(folder)
    (folder / f"streamed-{share.rank}.json").write_text(json.dumps(streamed))
