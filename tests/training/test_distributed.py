"""Two processes compute what one does, and leave what one leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pointpeft.data.shards import write_shards
from pointpeft.errors import ConfigError, DataError
from pointpeft.training import FinetuneConfig
from pointpeft.training.config import TrainerConfig
from pointpeft.training.engine import make_trainer
from pointpeft.training.loaders import EpochSampler, OrderedSampler, ShapeDataModule
from pointpeft.training.processes import Share
from pointpeft.training.run_folder import RunFolder
from tests.data.test_shards import damage
from tests.training.parts import write_part_archive
from tests.training.support import adapter_bytes, learnt, rows
from tests.training.two_processes import (
    CASES,
    KEYS,
    VAL,
    one_step,
    queue_after_a_step,
    split,
)

pytestmark = pytest.mark.slow  # two processes that import all, and train each kind of model
ROOT = Path(__file__).resolve().parents[2]
ONE = Share()
SHARDED = 600


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder that two processes have filled, what each found, and what they printed."""
    folder = tmp_path_factory.mktemp("two")
    parts = np.array(2 * [*6 * ["train"], "val", "test"])
    parts[0] = "val"  # an odd number
    archive = write_part_archive(folder / "parts.npz", 8, split=parts)
    made = {"procedural": SHARDED, "num_points": 64, "shard_size": 300, "workers": 0}
    for name in ("shards", "damaged"):
        write_shards("procedural", folder / name, **made)
    damage(folder / "damaged/shard-00000.parquet")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
              "-m", "tests.training.two_processes", str(folder), str(archive)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        launch, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return folder, found, done.stdout + done.stderr


@pytest.fixture(scope="module", params=CASES)
def step(request, two, tmp_path_factory):
    """What a training step gave in each of two processes, and in one."""
    (_, found, _), case = two, request.param
    return [each["steps"][case] for each in found], one_step(case, tmp_path_factory.mktemp("one"))


def test_gradients_are_those_of_one_process(step):
    of_two, of_one = step
    assert of_one["gradients"]
    for found in of_two:
        assert found["gradients"].keys() == of_one["gradients"].keys()
        for name, gradient in of_one["gradients"].items():
            other = found["gradients"][name]
            torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_metrics_are_those_of_one_process(step):
    of_two, of_one = step
    assert of_two[0]["metrics"] == of_two[1]["metrics"]
    assert of_two[0]["metrics"] == pytest.approx(of_one["metrics"], rel=1e-3)
    for key in ("train_accuracy", "val_accuracy"):
        assert of_two[0]["metrics"][key] == of_one["metrics"][key]


def test_every_shape_of_an_odd_split_counts_once(step):
    of_two, of_one = step
    for found in of_two:
        assert torch.equal(found["confusion"], of_one["confusion"])
    correct = of_one["confusion"].trace().float() / VAL
    assert of_two[0]["metrics"]["val_accuracy"] == float(correct)


def test_keys_of_all_processes_enter_the_queue(two):
    _, (first, second), _ = two
    assert torch.equal(first["queue"], second["queue"])
    of_two, end = _queue(first["queue"])
    of_one, earlier_end = _queue(queue_after_a_step(ONE))
    assert (end, earlier_end) == (2 * KEYS, KEYS)
    torch.testing.assert_close(of_two[:, :KEYS], of_one[:, :KEYS])
    assert not torch.isclose(of_two, of_one).all(dim=0)[KEYS : 2 * KEYS].any()
    assert torch.equal(of_two[:, 2 * KEYS :], of_one[:, 2 * KEYS :])


def _queue(flat):
    """Columns, and where the next key goes."""
    return flat[:-1].view(10, 16), int(flat[-1])


def test_only_the_first_process_writes(two):
    folder, _, _ = two
    for run, epochs in (("whole", 2), ("pretrain", 1)):
        assert len(rows(folder / run)) == epochs
        assert (folder / run / "log.txt").read_text().count("command:") == 1
        assert len(list((folder / run / "tensorboard").glob("events*"))) == 1
        for name in ("config.yaml", "metrics.json", "backbone.safetensors"):
            assert (folder / run / name).stat().st_size > 0
    assert not list(folder.rglob("*.tmp"))


def test_each_process_says_what_it_has_to_say_once(two):
    _, _, printed = two
    assert printed.count("random weights") == 5  # of that many runs
    assert printed.count("pretrain: epoch 1/1") == 1
    assert printed.count("pre-trained point_mae_small") == 1


def test_the_shares_are_measured_as_the_whole_is(two):
    """Validation in two processes, and at the end in the first alone."""
    folder, _, _ = two
    metrics = json.loads((folder / "whole/metrics.json").read_text())
    best = max(rows(folder / "whole"), key=lambda row: float(row["val_score"]))
    assert metrics["val_items"] == 3
    assert metrics["val_instance_iou"] == pytest.approx(float(best["val_instance_iou"]), rel=1e-6)


def test_a_resumed_run_equals_an_uninterrupted_one(two):
    folder, _, _ = two
    whole, cut = (rows(folder / run) for run in ("whole", "cut"))
    assert whole == cut
    whole, cut = (adapter_bytes(folder / run) for run in ("whole", "cut"))
    assert whole["adapter_model.safetensors"] == cut["adapter_model.safetensors"]


def test_all_processes_stop_when_one_diverges(two):
    folder, _, _ = two
    for rank in range(2):
        diverged, _ = json.loads((folder / f"{rank}.json").read_text())
        assert diverged.startswith("TrainingError: ")
        assert "optimizer.lr" in diverged
    assert (folder / "diverged/checkpoints/last.ckpt").is_file()
    assert not (folder / "diverged/metrics.json").exists()


def test_a_failure_of_the_first_process_reaches_the_other(two):
    folder, _, _ = two
    (_, first), (_, other) = (json.loads((folder / f"{n}.json").read_text()) for n in range(2))
    assert first == "OSError: no space left"
    assert other.startswith("TrainingError: ")
    assert "no space left" in other


@pytest.fixture(scope="module")
def streamed(two):
    """What each process saw of shards."""
    return [json.loads((two[0] / f"streamed-{rank}.json").read_text()) for rank in range(2)]


def test_processes_read_disjoint_parts_of_shards_in_as_many_batches(streamed):
    first, second = (found["whole"] for found in streamed)
    assert [len(batch) for batch in first] == [len(batch) for batch in second]
    epochs = [[*first[:half], *second[:half]] for half in [len(first) // 2]]
    for batches in epochs:
        seen = [item for batch in batches for item in batch]
        assert len(set(seen)) == len(seen) == SHARDED + 2  # procedural=2


def test_streaming_goes_on_with_the_same_items_and_to_the_same_weights(two, streamed):
    folder, _, _ = two
    for found in streamed:
        assert found["cut"] == found["whole"]
    whole, cut = (folder / name for name in ("stream", "stream-cut"))
    assert learnt(whole) == learnt(cut)
    assert (whole / "backbone.safetensors").read_bytes() == (
        cut / "backbone.safetensors"
    ).read_bytes()


def test_all_processes_leave_out_the_step_of_one(two):
    folder, _, printed = two
    losses = [float(row["train_loss"]) for row in rows(folder / "skipped")]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert printed.count("step 2 is left out") == 1


def test_all_processes_stop_where_one_cannot_read(streamed):
    said = [found["error"] for found in streamed]
    assert any("shard-00000" in text for text in said)
    assert all(said)


@pytest.mark.parametrize(("length", "processes"), [(8, 2), (9, 2), (1, 3), (10, 4), (3, 1)])
def test_shares_of_a_split_are_the_split(length, processes):
    shares = [list(OrderedSampler(length, Share(rank, processes))) for rank in range(processes)]
    assert len(set(map(len, shares))) == 1
    counted = sorted(place for share in shares for place in share if place >= 0)
    assert counted == list(range(length))


@pytest.mark.parametrize(("length", "fresh", "processes"), [(8, 0, 2), (9, 4, 2), (5, 6, 4)])
def test_batches_of_all_processes_are_those_of_one(length, fresh, processes):
    size = 2
    for epoch in range(2):
        orders = []
        for share in (ONE, *(Share(rank, processes) for rank in range(processes))):
            sampler = EpochSampler(length, 3, fresh, share)
            sampler.set_epoch(epoch)
            orders.append(list(sampler))
            assert len(orders[-1]) == len(sampler) == (length + fresh) // share.processes
        whole, *parts = orders
        for start in range(0, len(parts[0]), size):
            batch = [place for part in parts for place in part[start : start + size]]
            begin = start * processes
            assert sorted(batch) == sorted(whole[begin : begin + len(batch)])


@pytest.mark.parametrize(
    ("count", "batch_size", "error", "message"),
    [
        (16, 9, ConfigError, "batch_size=9 .*2 processes"),
        (16, 2, ConfigError, "batch_size=2 .*at least 4"),
        (3, 4, DataError, "2 processes.*3"),
    ],
)
def test_refuses_what_cannot_be_shared_out(count, batch_size, error, message):
    with pytest.raises(error, match=message):
        ShapeDataModule(split(count), split(0), 64, batch_size, share=Share(0, 2))


def test_another_process_leaves_the_folder_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    run = RunFolder(tmp_path / "run")
    run.prepare(FinetuneConfig(), resume=False)
    with run.logging():
        run.begin(FinetuneConfig())
    assert not run.path.exists()


def trainer(tmp_path, **settings):
    config = TrainerConfig(accelerator="cpu", **settings)
    return make_trainer(config, RunFolder(tmp_path), 0, [], None, None)


def test_refuses_to_train_alone_in_one_of_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ConfigError, match=r"trainer\.devices=auto.*torchrun"):
        trainer(tmp_path)


def test_refuses_strategies_that_start_processes_in_the_middle(tmp_path):
    with pytest.raises(ConfigError, match="ddp_spawn"):
        trainer(tmp_path, devices="2", strategy="ddp_spawn")
