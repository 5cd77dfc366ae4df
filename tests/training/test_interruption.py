"""A run that was stopped, killed or ran out of disk goes on as if nothing had happened."""

import errno
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.measure import load_adapted
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.training import FinetuneConfig, finetune, load_config
from pointpeft.training.pretraining import PretrainingModule
from pointpeft.training.run_folder import AtomicCheckpointIO
from tests.cli.conftest import run as type_command
from tests.training.support import (
    TINY,
    adapter_bytes,
    learnt,
    retrained,
    rows,
    start,
    wait_for_epochs,
)


class PowerCutError(Exception):
    """What stops training in these tests."""


@pytest.fixture
def cut_at(monkeypatch):
    """Stops the training of a task in the middle of an epoch (counted from 0)."""

    def cut(task: type, epoch: int, error: BaseException | None = None) -> None:
        step = task.training_step

        def failing(self, batch, index):
            if self.trainer.current_epoch == epoch and index == 1:
                monkeypatch.setattr(task, "training_step", step)
                raise error or PowerCutError
            return step(self, batch, index)

        monkeypatch.setattr(task, "training_step", failing)

    return cut


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    first, second = (load_file(run / "adapter/adapter_model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("method", ["full", "linear", "point-peft"])
@pytest.mark.parametrize("epoch", [0, pytest.param(2)])
def test_resumed_run_equals_uninterrupted_run(run_finetune, tmp_path, cut_at, method, epoch):
    run_finetune(f"method={method}", name="whole")
    cut_at(ClassificationModule, epoch)
    with pytest.raises(PowerCutError):
        run_finetune(f"method={method}", name="cut")
    assert (tmp_path / "cut/checkpoints/last.ckpt").exists() == (epoch > 0)
    metrics = run_finetune(f"method={method}", name="cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert len(rows(tmp_path / "cut")) == 4
    assert metrics["test_accuracy"] is not None


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=full", "backbone.drop_path=0.5", "data.augmentation=scale-rotate"],
        ["method=point-peft", "peft.head=lda", "data.augmentation=scale-rotate"],
    ],
)
def test_resumed_run_with_random_points(run_finetune, tmp_path, cut_at, overrides):
    """Whatever is random in training is drawn anew from the seed and the epoch."""
    run_finetune(*overrides, name="whole")
    cut_at(ClassificationModule, 1)
    with pytest.raises(PowerCutError):
        run_finetune(*overrides, name="cut")
    torch.rand(1000)
    metrics = run_finetune(*overrides, name="cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert ("fit_seconds" in metrics) == ("peft.head=lda" in overrides)  # of the first part


def test_several_seeds_go_on_where_they_stopped(run_finetune, tmp_path, cut_at):
    overrides = ["seeds=2", "trainer.epochs=3"]
    run_finetune(*overrides, name="whole")
    cut_at(ClassificationModule, 2)
    with pytest.raises(PowerCutError):
        run_finetune(*overrides, name="cut")
    run_finetune(*overrides, name="cut", resume=True)
    for part in ("seed0", "seed1"):
        assert_same_run(tmp_path / "whole" / part, tmp_path / "cut" / part)
    assert adapter_bytes(tmp_path / "whole") == adapter_bytes(tmp_path / "cut")


def test_resuming_a_finished_run_changes_nothing(run_finetune, tmp_path):
    first = run_finetune()
    history, adapter = rows(tmp_path / "run"), adapter_bytes(tmp_path / "run")
    assert run_finetune(resume=True) == first
    assert rows(tmp_path / "run") == history
    assert adapter_bytes(tmp_path / "run") == adapter


STOPS_EARLY = ["trainer.epochs=40", "optimizer.lr=1e-2"]


def test_a_run_that_stopped_early_is_prolonged_by_a_larger_patience(run_finetune, tmp_path):
    """As if the larger one had been asked for at once."""
    run_finetune(*STOPS_EARLY, "trainer.patience=2", name="short")
    run_finetune(*STOPS_EARLY, "trainer.patience=6", name="long")
    assert len(rows(tmp_path / "short")) < len(rows(tmp_path / "long")) < 40
    run_finetune(*STOPS_EARLY, "trainer.patience=6", name="short", resume=True)
    assert_same_run(tmp_path / "short", tmp_path / "long")


@pytest.mark.parametrize("patience", ["null", "40"])
def test_without_a_limit_a_run_that_stopped_early_goes_on_to_its_end(
    run_finetune, tmp_path, patience
):
    run_finetune(*STOPS_EARLY, "trainer.patience=2")
    run_finetune(*STOPS_EARLY, f"trainer.patience={patience}", resume=True)
    assert len(rows(tmp_path / "run")) == 40


@pytest.mark.parametrize("first", ["null", "20"])
def test_a_smaller_patience_counts_the_epochs_before(run_finetune, tmp_path, cut_at, first):
    """Too many epochs without a better one are behind: nothing more is trained."""
    run_finetune(*STOPS_EARLY, "trainer.patience=2", name="short")
    stopped = len(rows(tmp_path / "short"))
    cut_at(ClassificationModule, stopped + 1)
    with pytest.raises(PowerCutError):
        run_finetune(*STOPS_EARLY, f"trainer.patience={first}", name="run")
    metrics = run_finetune(*STOPS_EARLY, "trainer.patience=2", resume=True)
    assert len(rows(tmp_path / "run")) == metrics["epochs"] == stopped + 1
    short = json.loads((tmp_path / "short/metrics.json").read_text())
    assert metrics["best_epoch"] == short["best_epoch"]
    assert metrics["val_accuracy"] == short["val_accuracy"]


def test_more_epochs_alone_do_not_prolong_a_run_that_stopped_early(run_finetune, tmp_path, caplog):
    """Its patience is used up, and it says which setting that is."""
    run_finetune(*STOPS_EARLY, "trainer.patience=2")
    history = rows(tmp_path / "run")
    with caplog.at_level(logging.INFO, "pointpeft"):
        run_finetune("trainer.epochs=60", *STOPS_EARLY[1:], "trainer.patience=2", resume=True)
    assert rows(tmp_path / "run") == history
    assert "trainer.patience=2" in caplog.text


def test_a_moved_run_can_be_resumed(run_finetune, tmp_path, cut_at):
    """The best epoch so far is remembered even where the folder has another name now."""
    run_finetune("optimizer.lr=3e-2", "trainer.epochs=6", name="whole")
    cut_at(ClassificationModule, 5)
    with pytest.raises(PowerCutError):
        run_finetune("optimizer.lr=3e-2", "trainer.epochs=6", name="cut")
    (tmp_path / "cut").rename(tmp_path / "moved")
    run_finetune("optimizer.lr=3e-2", "trainer.epochs=6", name="moved", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "moved")


def test_training_can_be_prolonged(run_finetune, tmp_path):
    run_finetune("trainer.epochs=2")
    run_finetune("trainer.epochs=3", resume=True)
    assert [int(row["epoch"]) for row in rows(tmp_path / "run")] == [1, 2, 3]


def test_a_run_on_a_path_that_looks_like_a_reference_is_resumed(archive, tmp_path):
    folder = tmp_path / "${data}"
    folder.mkdir()
    data = shutil.copy(archive, folder / "shapes.npz")
    run = tmp_path / "run"
    command = ["finetune", "--output", run, "--data", data, "--method", "linear", *TINY]
    for epochs, more in (("1", []), ("2", ["--resume"])):
        done = type_command(*command, "--epochs", epochs, *more)
        assert done.code == 0, done.err
    assert len(rows(run)) == 2


def test_a_resumed_run_cannot_be_shortened(run_finetune, tmp_path):
    run_finetune("trainer.epochs=3", "seeds=2", name="seeds")
    first = run_finetune("trainer.epochs=3")
    for more in ({}, {"name": "seeds"}):
        given = ["trainer.epochs=1", *(["seeds=2"] if more else [])]
        with pytest.raises(ConfigError, match=r"trainer\.epochs=1"):
            run_finetune(*given, **more, resume=True)
    assert run_finetune("trainer.epochs=3", resume=True) == first


@pytest.mark.parametrize("epoch", [0, pytest.param(2)])
def test_resumed_pretraining_equals_uninterrupted_one(
    run_pretrain, archive, tmp_path, cut_at, epoch
):
    overrides = [f"svm.source={archive}", "svm.num_points=64", "svm.every=2"]
    run_pretrain(*overrides, name="whole")
    measured = [row["svm_accuracy"] != "" for row in rows(tmp_path / "whole")]
    assert measured == [False, True, False, True]
    cut_at(PretrainingModule, epoch)
    with pytest.raises(PowerCutError):
        run_pretrain(*overrides, name="cut")
    assert not (tmp_path / "cut/backbone.safetensors").exists()
    run_pretrain(*overrides, name="cut", resume=True)
    assert learnt(tmp_path / "whole") == learnt(tmp_path / "cut")
    for name in ("backbone.safetensors", "backbone_best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_resuming_finished_pretraining_changes_nothing(run_pretrain, tmp_path):
    run_pretrain()
    before = (tmp_path / "pretrain/backbone.safetensors").read_bytes()
    run_pretrain(resume=True)
    assert (tmp_path / "pretrain/backbone.safetensors").read_bytes() == before


def test_every_epoch_is_saved(run_finetune, tmp_path):
    run_finetune("optimizer.lr=3e-2", "trainer.epochs=6")
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 5


@pytest.mark.parametrize("resume_of", ["run_finetune", "run_pretrain"])
def test_nothing_to_resume(request, resume_of):
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        request.getfixturevalue(resume_of)(resume=True)


def test_damaged_checkpoint_is_named(run_finetune, tmp_path, cut_at):
    cut_at(ClassificationModule, 1)
    with pytest.raises(PowerCutError):
        run_finetune()
    last = tmp_path / "run/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        run_finetune(resume=True)


@pytest.mark.parametrize("left", [{}, {"state_dict": {}}, []], ids=str)
def test_a_checkpoint_of_something_else_is_named(run_pretrain, tmp_path, left):
    run_pretrain("trainer.epochs=1")
    torch.save(left, tmp_path / "pretrain/checkpoints/last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        run_pretrain("trainer.epochs=2", resume=True)


@pytest.mark.parametrize("content", [b"", b"- 1", b"a: [", b"\xff"], ids=str)
def test_damaged_settings_are_named(run_pretrain, tmp_path, content):
    run_pretrain("trainer.epochs=1")
    (tmp_path / "pretrain/config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        run_pretrain("trainer.epochs=2", resume=True)


def test_a_run_that_ended_without_its_checkpoint_is_not_trained_over(
    run_pretrain, tmp_path, caplog
):
    run_pretrain("trainer.epochs=1")
    (tmp_path / "pretrain/checkpoints/last.ckpt").unlink()
    with caplog.at_level(logging.INFO, "pointpeft"):
        run_pretrain("trainer.epochs=1", resume=True)
    assert "last.ckpt is missing" in caplog.text
    with pytest.raises(ConfigError, match=r"last\.ckpt"):  # what it reached would be lost
        run_pretrain("trainer.epochs=2", resume=True)
    (tmp_path / "pretrain/metrics.json").unlink()  # as of one that has not ended
    run_pretrain("trainer.epochs=2", resume=True)
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "last.ckpt" in warning
    assert len(rows(tmp_path / "pretrain")) == 2


@pytest.mark.parametrize("seeds", [1, 2])
def test_an_adapter_without_its_checkpoint_is_not_trained_over(run_finetune, tmp_path, seeds):
    run_finetune("trainer.epochs=1", f"seeds={seeds}")
    for last in tmp_path.rglob("last.ckpt"):
        last.unlink()
    with pytest.raises(ConfigError, match=r"last\.ckpt"):
        run_finetune("trainer.epochs=2", f"seeds={seeds}", resume=True)


@pytest.mark.parametrize("change", ["points", "label"])
def test_a_run_does_not_go_on_with_other_shapes(run_finetune, archive, tmp_path, change):
    data = tmp_path / "own.npz"
    arrays = dict(np.load(archive))
    np.savez(data, **arrays)
    run_finetune(f"data.source={data}", "trainer.epochs=1")
    arrays[change] = arrays[change][::-1]
    np.savez(data, **arrays)
    with pytest.raises(ConfigError, match=r"data\.source"):
        run_finetune(f"data.source={data}", "trainer.epochs=2", resume=True)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_does_not_go_on_with_another_encoder(run_finetune, weights, tmp_path, seeds):
    moving = tmp_path / "backbone.safetensors"
    shutil.copy(weights, moving)
    given = f"checkpoint={moving}", f"seeds={seeds}"
    before = run_finetune(*given, "trainer.epochs=1")
    retrained(weights, moving)
    (run,) = {file.parent for file in tmp_path.rglob("metrics.json") if "seed" not in str(file)}
    with pytest.raises(CheckpointError, match=r"backbone\.safetensors"):
        run_finetune(*given, "trainer.epochs=2", resume=True)
    assert json.loads((run / "metrics.json").read_text()) == before  # nothing is lost
    shutil.copy(weights, moving)
    run_finetune(*given, "trainer.epochs=2", resume=True)


def no_space(*arguments, **options):
    """Stands for a writer on a full disk: a part of the file, then an error."""
    for target in arguments:
        if hasattr(target, "write"):
            target.write(b"incomplete")
        elif isinstance(target, Path):
            target.write_bytes(b"incomplete")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    entries = "state_dict optimizer_states lr_schedulers loops epoch global_step"
    content = dict.fromkeys(entries.split(), 1)
    io.save_checkpoint(content, path)
    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(OSError, match="No space"):
        io.save_checkpoint({"epoch": 2}, path)
    assert io.load_checkpoint(path) == content
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_full_disk_in_training_leaves_a_run_to_resume(run_finetune, tmp_path, monkeypatch):
    run_finetune(name="whole")
    save, saved = torch.save, []

    def save_then_full(content, *arguments, **options):
        saved.append(content)
        if len(saved) == 5:  # two files an epoch
            no_space(*arguments)
        save(content, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_then_full)
        with pytest.raises(OSError, match="No space"):
            run_finetune(name="cut")
    for name in ("last.ckpt", "best.ckpt"):
        torch.load(tmp_path / "cut/checkpoints" / name, weights_only=True)
    run_finetune(name="cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_full_disk_leaves_the_previous_adapter(run_finetune, tmp_path, monkeypatch):
    run_finetune("trainer.epochs=1")
    before = adapter_bytes(tmp_path / "run")
    model = load_adapted(tmp_path / "run")
    monkeypatch.setattr("pointpeft.models.safetensors_files.save_file", no_space)
    with pytest.raises(OSError, match="No space"):
        model.save_pretrained(tmp_path / "run/adapter")
    assert adapter_bytes(tmp_path / "run") == before


EPOCHS = 60
"""So many that a run is seen to train before it has ended, on a busy machine too."""


@pytest.fixture(scope="module")
def long_run(weights, archive):
    """Makes the arguments of a run of many epochs as a command."""
    settings = [f"checkpoint={weights}", f"data.source={archive}", "method=linear",
                "optimizer.lr=5e-3", f"trainer.epochs={EPOCHS}"]  # fmt: skip
    return lambda run: ["finetune", "--output", str(run), *TINY, *settings]


def test_killed_process_resumes_to_the_same_result(long_run, tmp_path):
    run = tmp_path / "cut"
    process = start(*long_run(run))
    wait_for_epochs(process, run, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = len(rows(run))
    assert done < EPOCHS, "the run ended before it was killed"
    config = load_config(FinetuneConfig, [run / "config.yaml"])
    finetune(config, run, resume=True)
    finetune(config, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", run)


@pytest.fixture(scope="module")
def stopped_by_ctrl_c(long_run, tmp_path_factory):
    """The run folder, exit code and messages of a command that got SIGINT while training."""
    run = tmp_path_factory.mktemp("stopped") / "cut"
    process = start(*long_run(run))
    wait_for_epochs(process, run, 3)
    process.send_signal(signal.SIGINT)
    output, messages = process.communicate(timeout=60)
    return run, process.returncode, output, messages


def test_ctrl_c_leaves_a_run_to_resume(stopped_by_ctrl_c):
    run, code, output, messages = stopped_by_ctrl_c
    assert code != 0
    assert len(rows(run)) < EPOCHS, "the run ended before it was stopped"
    assert "Traceback" not in output + messages
    torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    resumed = finetune(load_config(FinetuneConfig, [run / "config.yaml"]), run, resume=True)
    assert resumed["test_accuracy"] is not None
    assert len(rows(run)) == EPOCHS


def test_ctrl_c_says_how_to_go_on(stopped_by_ctrl_c):
    _, code, _, messages = stopped_by_ctrl_c
    said = [line for line in messages.splitlines() if "--resume" in line]
    assert code == 130, messages
    assert len(said) == 1, messages
