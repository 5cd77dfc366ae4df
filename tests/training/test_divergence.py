"""Training that diverges stops at once, and leaves what was good."""

import json
import math

import numpy as np
import pytest
import torch

from pointpeft.errors import TrainingError
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.training import run as run_module
from pointpeft.training.pretraining import PretrainingModule
from pointpeft.training.pretraining_checks import SvmCheck
from tests.training.support import TINY, rows, start, times, write_archive


@pytest.fixture
def broken_at(monkeypatch):
    """Makes the loss of a task another number from the second step of an epoch (from 1) on."""

    def breaking(task: type, epoch: int, factor: float):
        step = task.training_step

        def broken(self, batch, index):
            found = step(self, batch, index)
            late = (self.current_epoch + 1, index) >= (epoch, 1)
            return times(found, factor) if late else found

        monkeypatch.setattr(task, "training_step", broken)
        return lambda: monkeypatch.setattr(task, "training_step", step)

    return breaking


def assert_kept(run, epochs):
    """The state after so many epochs is there and finite, and no result is."""
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == epochs - 1
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())
    assert [row["epoch"] for row in rows(run)] == [str(n) for n in range(1, epochs + 1)]
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_finetuning_stops_at_the_step(run_finetune, tmp_path, broken_at, factor):
    broken_at(ClassificationModule, 3, factor)
    with pytest.raises(TrainingError) as caught:
        run_finetune()
    text = str(caught.value)
    assert "epoch 3, step 6 " in text  # two steps an epoch
    for named in ("optimizer.lr", "trainer.precision", "last.ckpt"):
        assert named in text
    assert_kept(tmp_path / "run", 2)


def test_the_learning_rate_in_force_is_named(run_finetune, broken_at):
    """At the first step of a warm-up it is the lowest one, not that of the settings."""
    broken_at(ClassificationModule, 1, math.nan)
    with pytest.raises(TrainingError, match=r"0\.000627"):
        run_finetune("optimizer.lr=5e-3", "optimizer.warmup=0.999", "optimizer.min_lr=1e-6")


def test_a_run_goes_on_once_the_cause_is_gone(run_finetune, tmp_path, broken_at):
    mend = broken_at(ClassificationModule, 3, math.nan)
    with pytest.raises(TrainingError):
        run_finetune(name="cut")
    mend()
    resumed, whole = run_finetune(name="cut", resume=True), run_finetune(name="whole")
    assert resumed["test_accuracy"] == whole["test_accuracy"]
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_pretraining_stops_at_the_step(run_pretrain, tmp_path, broken_at):
    broken_at(PretrainingModule, 2, math.nan)
    with pytest.raises(TrainingError, match=r"epoch 2, step 4 .*optimizer\.lr"):
        run_pretrain()
    assert_kept(tmp_path / "pretrain", 1)
    assert not (tmp_path / "pretrain/backbone.safetensors").exists()


def test_weights_that_the_last_step_of_an_epoch_broke_are_not_saved(
    run_finetune, tmp_path, monkeypatch
):
    """The loss before the step was finite, and there is no validation that would measure them."""

    def breaking(task, outputs, batch, index):
        if task.current_epoch == 1 and task.trainer.is_last_batch:
            with torch.no_grad():
                next(p for p in task.parameters() if p.requires_grad)[0] = math.nan

    monkeypatch.setattr(ClassificationModule, "on_train_batch_end", breaking)
    data = write_archive(tmp_path / "no_val.npz", {"train": 8, "test": 2})
    with pytest.raises(TrainingError, match="epoch 2"):
        run_finetune("data.val_fraction=0", f"data.source={data}")
    assert_kept(tmp_path / "run", 1)


def test_a_validation_that_is_not_a_number_stops_too(run_finetune, tmp_path, monkeypatch):
    """Also where it would end the run as one that did not get better."""
    log_means = ClassificationModule.log_means

    def broken(task, values, index):
        factor = math.nan if task.current_epoch == 1 else 1
        log_means(task, {name: factor * value for name, value in values.items()}, index)

    monkeypatch.setattr(ClassificationModule, "log_means", broken)
    with pytest.raises(TrainingError, match=r"epoch 2\b.*val_\w+"):
        run_finetune("trainer.patience=2")
    assert_kept(tmp_path / "run", 1)


def test_a_check_that_is_not_a_number_stops_pretraining(run_pretrain, archive, monkeypatch):
    """It would be the best value for ever, since no other one is larger."""
    monkeypatch.setattr(SvmCheck, "measure", lambda *_: math.nan)
    with pytest.raises(TrainingError, match="svm_accuracy"):
        run_pretrain(f"svm.source={archive}", "svm.num_points=64")


def test_the_command_ends_with_an_error_and_without_an_accuracy(
    finetune_config, weights, archive, tmp_path
):
    """A learning rate beyond all reason; the first step is taken, the second has no finite loss."""
    run = start(
        "finetune", "--output", tmp_path / "run", *TINY, f"checkpoint={weights}",
        f"data.source={archive}", "method=full", "optimizer.lr=1e30", "optimizer.warmup=0",
        "optimizer.grad_clip=null", "trainer.epochs=2",
    )  # fmt: skip
    output, messages = run.communicate(timeout=120)
    assert run.returncode == 1, messages
    assert "optimizer.lr" in messages
    assert "Traceback" not in messages
    assert "accuracy" not in output


def test_metrics_of_one_seed_have_no_deviation(run_finetune, tmp_path, monkeypatch):
    """One of two seeds has a value: the deviation of a single number is not a number."""
    measure = run_module.measure

    def of_one(model, resolved, *rest):
        voted = {"test_vote_accuracy": 0.5} if resolved.config.seed == 0 else {}
        return measure(model, resolved, *rest) | voted

    monkeypatch.setattr(run_module, "measure", of_one)
    metrics = run_finetune("seeds=2", "trainer.epochs=1")
    text = (tmp_path / "run/metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == metrics
    assert metrics["test_vote_accuracy_per_seed"] == [0.5, None]
    assert metrics["test_vote_accuracy_mean"] == 0.5
    assert metrics["test_vote_accuracy_std"] is None
    assert metrics["test_accuracy_std"] == pytest.approx(
        np.std(metrics["test_accuracy_per_seed"], ddof=1)
    )
