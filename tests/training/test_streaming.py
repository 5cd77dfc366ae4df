"""Pre-training from shards: the order of an epoch, exact resuming, and faults of a long run."""

import errno
import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from pointpeft.data import InputTransform
from pointpeft.data.shards import load_sharded, write_shards
from pointpeft.data.shards.shard_reader import WINDOW
from pointpeft.data.transforms import recipe
from pointpeft.errors import ConfigError, DataError, TrainingError
from pointpeft.training import PretrainConfig, load_config, pretrain
from pointpeft.training.config import OptimizerConfig
from pointpeft.training.faults import Faults
from pointpeft.training.inputs import shapes_seen
from pointpeft.training.optimizer import Schedule
from pointpeft.training.pretraining import PretrainingModule
from pointpeft.training.pretraining_batches import (
    BlockSampler,
    PretrainingBatches,
    PretrainingClouds,
)
from pointpeft.training.pretraining_checks import RebuildingCheck
from pointpeft.training.processes import Share
from pointpeft.training.protocol import HONEST
from pointpeft.training.run_folder import AtomicCheckpointIO
from pointpeft.training.unlabelled import load_pretraining_data
from tests.data.test_shards import damage
from tests.models.tiny import clouds, settle, tiny
from tests.training.support import learnt, rows, times
from tests.training.test_rebuilding_check import TOKENIZER

pytest.importorskip("pyarrow")
EVERY_STEP = "checkpoint_minutes=1e-9"


class PowerCutError(Exception):
    """What stops training in these tests."""


@pytest.fixture(scope="session")
def sharded(tmp_path_factory):
    """600 procedural shapes in two shards of two blocks."""
    folder = tmp_path_factory.mktemp("sharded") / "shards"
    write_shards("procedural", folder, procedural=600, num_points=80, shard_size=300, workers=0)
    return folder


@pytest.fixture
def own_shards(sharded, tmp_path):
    """A copy that a test may damage."""
    folder = tmp_path / "own"
    folder.mkdir()
    for file in sharded.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def steps(monkeypatch):
    """Records the items of every step; `at` an epoch and a step, from 0, something happens."""
    step = PretrainingModule.training_step

    class Steps:
        seen: list[list[int]]
        at: dict = {}  # noqa: RUF012

        def __call__(self, module, batch, index):
            happens = self.at.get((module.trainer.current_epoch, index), lambda loss: loss)
            if isinstance(happens, Exception):
                self.at = {}
                raise happens
            self.seen.append(batch["index"].tolist())
            return happens(step(module, batch, index))

    steps = Steps()
    steps.seen = []
    monkeypatch.setattr(PretrainingModule, "training_step", lambda *given: steps(*given))
    return steps


# Order ------------------------------------------------------------------------------------------


def blocks(*sizes):
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def order(sizes, epoch=0, seed=0, fresh=0, share=Share()):  # noqa: B008 - frozen
    sampler = BlockSampler(blocks(*sizes), seed, fresh, share)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize(("sizes", "fresh"), [([5, 3, 8, 8], 0), ([4] * 40, 9), ([], 600)])
def test_processes_see_disjoint_parts_of_equal_size(sizes, fresh, processes):
    shares = [order(sizes, 2, 0, fresh, Share(rank, processes)) for rank in range(processes)]
    total = sum(sizes)
    assert {len(share) for share in shares} == {(total + fresh) // processes}
    seen = [item for share in shares for item in share]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= {*range(total), *range(total + 2 * fresh, total + 3 * fresh)}


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = {(seed, epoch): order([6] * 9, epoch, seed) for seed in range(3) for epoch in range(3)}
    assert len({tuple(each) for each in orders.values()}) == 9
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert orders[2, 1] == order([6] * 9, 1, 2)
    assert sorted(orders[2, 1]) == list(range(54))


def test_every_block_is_read_once_and_few_at_a_time():
    """In any stretch as long as a window there are items of two windows of blocks at most."""
    found = np.array(order([10] * 100)) // 10
    first, last = ([np.flatnonzero(found == block)[end] for block in range(100)] for end in (0, -1))
    assert max(np.subtract(last, first)) < 10 * WINDOW
    assert len(set(found[: 10 * WINDOW])) <= 2 * WINDOW
    assert len(set(found[:10])) > 3


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_what_their_index_says(sharded, workers):
    shapes = load_sharded(sharded, transform())
    batches = PretrainingBatches(shapes, 5, 70, 64, workers).train_dataloader()
    seen = []
    for batch in batches:
        stored = batch["index"][batch["index"] < 600]
        expected, _ = shapes.read(stored.tolist(), 70)
        assert np.array_equal(batch["points"][: len(stored)].numpy(), expected)
        seen += batch["index"].tolist()
    assert sorted(seen) == list(range(605))


def transform():
    return InputTransform(64)


def test_memory_holds_a_window_of_blocks(sharded, monkeypatch):
    monkeypatch.setattr("pointpeft.data.shards.shard_reader.WINDOW", 2)
    shapes = load_sharded(sharded, transform())
    shapes.read(range(600), 64)
    assert len(shapes._held) == 2


# Resuming ---------------------------------------------------------------------------------------


def assert_same_run(one: Path, other: Path) -> None:
    assert learnt(one) == learnt(other)
    first, second = ((run / "backbone.safetensors").read_bytes() for run in (one, other))
    assert first == second


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("at", [(0, 2), (1, 0), (1, 5), (1, 3, 6)])
def test_a_run_goes_on_in_the_middle_of_an_epoch(
    run_pretrain, sharded, tmp_path, steps, at, workers
):
    """The same items in the same order, losses and weights, however often it was interrupted."""
    settings = [f"data.source={sharded}", "trainer.epochs=2", "trainer.batch_size=64", EVERY_STEP,
                f"trainer.num_workers={workers}", "procedural=20"]  # fmt: skip
    run_pretrain(*settings, name="whole")
    whole, steps.seen = steps.seen, []
    epoch, *indices = at
    for index in indices:
        steps.at = {(epoch, index): PowerCutError()}
        with pytest.raises(PowerCutError):
            run_pretrain(*settings, name="cut", resume=bool(steps.seen))
        assert len(steps.seen) == 10 * epoch + index
    run_pretrain(*settings, name="cut", resume=True)
    assert steps.seen == whole
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_shapes_in_memory_go_on_there_too(run_pretrain, tmp_path, steps):
    settings = ["trainer.epochs=2", "trainer.batch_size=8", EVERY_STEP]
    run_pretrain(*settings, name="whole")
    whole, steps.seen = steps.seen, []
    steps.at = {(1, 2): PowerCutError()}
    with pytest.raises(PowerCutError):
        run_pretrain(*settings, name="cut")
    run_pretrain(*settings, name="cut", resume=True)
    assert steps.seen == whole
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("source", ["shards", "memory"])
def test_workers_begin_with_the_right_epoch(run_pretrain, sharded, steps, source):
    """They load ahead before the trainer says which epoch it is."""
    settings = ["trainer.num_workers=1", "trainer.batch_size=8"]
    settings += [f"data.source={sharded}"] if source == "shards" else []
    run_pretrain("trainer.epochs=3", *settings, name="whole")
    whole, steps.seen = steps.seen, []
    run_pretrain("trainer.epochs=2", *settings, name="cut")
    run_pretrain("trainer.epochs=3", *settings, name="cut", resume=True)
    assert steps.seen == whole


def test_checkpoints_are_as_far_apart_as_is_asked_for(run_pretrain, monkeypatch):
    saved = []
    save = AtomicCheckpointIO.save_checkpoint
    monkeypatch.setattr(
        AtomicCheckpointIO,
        "save_checkpoint",
        lambda self, *given, **how: saved.append(save(self, *given, **how)),
    )
    for minutes, count in (("null", 2), ("60", 2), ("1e-9", 8)):
        run_pretrain(
            "trainer.epochs=2", "trainer.batch_size=8", f"checkpoint_minutes={minutes}",
            name=minutes,
        )  # fmt: skip
        assert len(saved) == count
        saved.clear()


@pytest.mark.parametrize("others", [{"procedural": 500}, {"procedural": 600, "seed": 9}])
def test_a_run_does_not_go_on_with_other_shapes(run_pretrain, own_shards, steps, others):
    settings = [f"data.source={own_shards}", "trainer.epochs=2", EVERY_STEP]
    steps.at = {(0, 2): PowerCutError()}
    with pytest.raises(PowerCutError):
        run_pretrain(*settings)
    for file in own_shards.iterdir():
        file.unlink()
    write_shards("procedural", own_shards, num_points=80, workers=0, **others)
    with pytest.raises(ConfigError, match=r"data\.source"):
        run_pretrain(*settings, resume=True)


def test_a_tokenizer_is_measured_on_shapes_of_shards_that_it_does_not_see(sharded, tmp_path):
    given = [f"data.source={sharded}", "trainer.epochs=1", "validate_every=1"]
    config = load_config(PretrainConfig, [], [*TOKENIZER, *given, "data.val_fraction=0.1"])
    data = load_pretraining_data(config, 64, HONEST)
    assert (len(data.train), len(data.held_out)) == (540, 60)
    assert not data.train.marks() & data.held_out.marks()
    assert pretrain(config, tmp_path / "run")["best_val_chamfer_l1"] > 0


@pytest.mark.parametrize("on_error", ["skip", "refuse"])
def test_a_tokenizer_is_measured_without_what_is_lost_or_not_at_all(
    own_shards, tmp_path, caplog, on_error
):
    """All blocks have held-out shapes; one of them is damaged once the shapes are known."""
    given = [f"data.source={own_shards}", "validate_every=1", f"data.on_error={on_error}"]
    config = load_config(PretrainConfig, [], [*TOKENIZER, *given])
    data = load_pretraining_data(config, 64, HONEST)
    whole = PretrainingClouds(data.held_out, 64)
    damage(own_shards / "shard-00001.parquet", "procedural/0/000000555")
    check = RebuildingCheck(
        whole, recipe("none", 64), 1, lambda *found: None, skip=on_error == "skip"
    )
    model = tiny("pretraining", "point_bert_dvae")
    if on_error == "refuse":
        with pytest.raises(DataError, match="shard-00001"):
            check.measure(model)
        return
    with caplog.at_level(logging.WARNING, "pointpeft"):
        distances = [check.measure(model) for _ in range(2)]
    assert min(distances) > 0
    (told,) = (record.getMessage() for record in caplog.records)
    assert "shard-00001" in told


def test_more_shapes_than_fit_into_a_file_are_not_remembered(run_pretrain, monkeypatch, tmp_path):
    monkeypatch.setattr("pointpeft.training.pretraining._MOST_REMEMBERED", 31)
    run_pretrain("trainer.epochs=1")
    assert not shapes_seen(tmp_path / "pretrain/backbone.safetensors")


@pytest.mark.parametrize("setting", ["checkpoint_minutes=0", "on_fault=stay"])
def test_settings_that_cannot_be(run_pretrain, setting):
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        run_pretrain(setting)


# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_damaged_shard_ends_the_run_which_goes_on_without_it(
    run_pretrain, own_shards, tmp_path, caplog, workers
):
    damage(own_shards / "shard-00001.parquet", "procedural/0/000000555")
    settings = [f"data.source={own_shards}", "trainer.epochs=2", "trainer.batch_size=64",
                f"trainer.num_workers={workers}", EVERY_STEP]  # fmt: skip
    with pytest.raises(DataError, match=r"shard-00001.*procedural/0/0.*data\.on_error"):
        run_pretrain(*settings, "data.on_error=refuse")
    with caplog.at_level(logging.ERROR, "pointpeft"):
        run_pretrain(*settings, "data.on_error=skip", resume=(tmp_path / "pretrain").exists())
    told = Counter(record.getMessage() for record in caplog.records)
    (text,) = told
    assert "shard-00001.parquet" in text
    assert told[text] == 1
    assert len(rows(tmp_path / "pretrain")) == 2


def test_a_run_goes_on_where_a_shard_with_held_out_shapes_is_lost(run_pretrain, tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 80, 3))
    np.savez(tmp_path / "set.npz", points=points, split=np.resize(["train", "val", "train"], 60))
    write_shards(tmp_path / "set.npz", tmp_path / "own", num_points=80, shard_size=20, workers=0)
    settings = [f"data.source={tmp_path / 'own'}", "trainer.batch_size=40"]
    run_pretrain(*settings, "trainer.epochs=1")
    (tmp_path / "own/shard-00001.parquet").unlink()
    run_pretrain(*settings, "trainer.epochs=2", "data.on_error=skip", resume=True)
    assert len(rows(tmp_path / "pretrain")) == 2


def test_batches_of_procedural_shapes_alone(sharded):
    clouds = PretrainingClouds(load_sharded(sharded, transform()), 64)
    batch = clouds.__getitems__([600, 601])
    assert batch["points"].shape == (2, 64, 3)
    assert clouds.names([601]) == ["procedural shape 1"]


def test_a_shard_without_anything_readable_ends_the_run(run_pretrain, own_shards):
    for file in own_shards.glob("*.parquet"):
        file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="shard-00000"):
        run_pretrain(f"data.source={own_shards}")


def spoil(found):
    return times(found, math.nan)


def test_a_loss_that_is_no_number_names_the_shapes(run_pretrain, sharded, steps, tmp_path):
    steps.at = {(0, 3): spoil}
    settings = [f"data.source={sharded}", "trainer.batch_size=2", "trainer.epochs=1", EVERY_STEP]
    with pytest.raises(TrainingError) as caught:
        run_pretrain(*settings)
    shapes = load_sharded(sharded, transform())
    for name in shapes.names(steps.seen[-1]):
        assert name in str(caught.value)
    last = torch.load(tmp_path / "pretrain/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3  # nothing before the fault is lost


def test_the_log_names_all_of_them(run_pretrain, sharded, steps, tmp_path):
    steps.at = {(0, 3): spoil}
    run_pretrain(f"data.source={sharded}", "trainer.batch_size=64", "trainer.epochs=1",
                 "on_fault=skip")  # fmt: skip
    log = (tmp_path / "pretrain/log.txt").read_text()
    for name in load_sharded(sharded, transform()).names(steps.seen[3]):
        assert name in log


def test_nothing_is_resumed_where_no_checkpoint_is(run_pretrain, own_shards, steps, tmp_path):
    """The folder of a run that ends before the first one does not stay."""
    steps.at = {(0, 0): spoil}
    with pytest.raises(TrainingError) as diverged:
        run_pretrain(f"data.source={own_shards}", "trainer.epochs=1")
    damage(own_shards / "shard-00001.parquet", "procedural/0/000000555")
    with pytest.raises(DataError) as unread:
        run_pretrain(f"data.source={own_shards}", "data.on_error=refuse", "trainer.epochs=1")
    assert not (tmp_path / "pretrain").exists()
    for caught in (diverged, unread):
        assert "--resume" not in str(caught.value)


def test_it_is_left_out_and_the_run_goes_on(run_pretrain, sharded, steps, tmp_path, caplog):
    steps.at = {(0, 3): spoil, (1, 0): spoil, (1, 1): spoil}
    settings = [f"data.source={sharded}", "trainer.batch_size=64", "trainer.epochs=2"]
    with caplog.at_level(logging.ERROR, "pointpeft"):
        run_pretrain(*settings, "on_fault=skip")
    assert [record.getMessage()[:6] for record in caplog.records] == ["step 4", "step 1", "step 1"]
    assert "shard-0000" in caplog.text
    assert all(math.isfinite(float(row["train_loss"])) for row in rows(tmp_path / "pretrain"))


def test_a_step_that_is_left_out_changes_nothing(run_pretrain, tmp_path, monkeypatch):
    """Neither weights and running statistics nor the moments of the optimizer."""
    states = []

    def spoiled(self, batch, index):
        found = step(self, batch, index)
        return spoil(found) if index == 1 else found

    def note(self, *of_batch):
        moments = [v.clone() for s in self.optimizers().state.values() for v in s.values()]
        states.append([*(v.clone() for v in self.state_dict().values()), *moments])

    step = PretrainingModule.training_step
    monkeypatch.setattr(PretrainingModule, "training_step", spoiled)
    monkeypatch.setattr(PretrainingModule, "on_train_batch_end", note)
    run_pretrain("on_fault=skip", "trainer.epochs=1", "trainer.batch_size=8")
    before, skipped, after, _ = states
    assert all(torch.equal(one, other) for one, other in zip(before, skipped, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(skipped, after, strict=True))
    assert all(value.isfinite().all() for value in after)


def test_nor_networks_that_follow_the_trained_one():
    """Point-BERT's keys, which move in the forward pass."""
    model = settle(tiny("pretraining", "point_bert")).train()
    task = PretrainingModule(model, Schedule.of(OptimizerConfig(lr=1e-3), 1), lambda points: points)
    faults = Faults(Path("last.ckpt"), goes_on=True)
    faults.on_train_batch_start(None, task, {}, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.1)
    trained = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.losses(clouds(4))
    moved = [
        n
        for n in before
        if n.startswith("key.") and not torch.equal(before[n], model.state_dict()[n])
    ]
    assert moved
    faults._skips = True
    faults.on_before_optimizer_step(None, task, torch.optim.SGD(model.parameters(), 0.1))
    for name in moved:
        assert torch.equal(model.state_dict()[name], before[name])
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, trained[name])


@pytest.mark.parametrize(("batch_size", "taken"), [("16", 1), ("2", 9)])
def test_a_run_that_has_diverged_ends_all_the_same(run_pretrain, steps, batch_size, taken):
    """After ten steps in a row, or all of an epoch."""
    steps.at = {(1, index): spoil for index in range(20)}
    with pytest.raises(TrainingError, match=r"epoch 2.*optimizer\.lr"):
        run_pretrain("on_fault=skip", f"trainer.batch_size={batch_size}")
    assert len(steps.seen) == 32 // int(batch_size) + taken + 1


def full_disk_at(monkeypatch, number):
    """Checkpoints from one number on, counted from 1, are not written whole."""
    save, calls = torch.save, []

    def saving(content, path):
        calls.append(path)
        if len(calls) == number:
            Path(path).write_bytes(b"incomplete")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, path)

    monkeypatch.setattr(torch, "save", saving)


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(
    run_pretrain, sharded, tmp_path, steps
):
    settings = [f"data.source={sharded}", "trainer.epochs=1", "trainer.batch_size=64", EVERY_STEP]
    run_pretrain(*settings, name="whole")
    with pytest.MonkeyPatch.context() as patch:
        full_disk_at(patch, 4)
        with pytest.raises(OSError, match=r"last\.ckpt.*No space.*--resume"):
            run_pretrain(*settings, name="cut")
    last = torch.load(tmp_path / "cut/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert [file.name for file in (tmp_path / "cut/checkpoints").iterdir()] == ["last.ckpt"]
    run_pretrain(*settings, name="cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_log_does_not_hide_what_a_full_disk_did(run_pretrain, monkeypatch, capsys):
    """It cannot be written either."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    full_disk_at(monkeypatch, 1)
    monkeypatch.setattr(logging.StreamHandler, "flush", full)
    with pytest.raises(OSError, match=r"last\.ckpt"):
        run_pretrain()
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_goes_on_without_a_checkpoint(run_pretrain, sharded, tmp_path, monkeypatch, caplog):
    settings = [f"data.source={sharded}", "trainer.epochs=1", "trainer.batch_size=64", EVERY_STEP]
    full_disk_at(monkeypatch, 4)
    with caplog.at_level(logging.ERROR, "pointpeft"):
        run_pretrain(*settings, "on_fault=skip")
    assert caplog.text.count("No space") == 1
    last = torch.load(tmp_path / "pretrain/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 10


def test_weights_that_are_not_finite_are_not_saved(run_pretrain, tmp_path, monkeypatch):
    def breaking(self, epoch, index, *rest):
        step(self, epoch, index, *rest)
        if index == 1:
            with torch.no_grad():
                next(self.parameters())[0] = math.nan

    step = PretrainingModule.optimizer_step
    monkeypatch.setattr(PretrainingModule, "optimizer_step", breaking)
    with pytest.raises(TrainingError, match="NaN"):
        run_pretrain("trainer.epochs=1", "trainer.batch_size=8", EVERY_STEP)
    last = torch.load(tmp_path / "pretrain/checkpoints/last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in last["state_dict"].values())
