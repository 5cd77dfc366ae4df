"""Batches: every item once an epoch, in an order that depends on seed and epoch alone."""

import numpy as np
import pytest
import torch

from pointpeft.data import ShapeSplit
from pointpeft.data.benchmarks.benchmark import RaggedSplit
from pointpeft.data.procedural import procedural_clouds
from pointpeft.errors import DataError
from pointpeft.training.loaders import (
    EpochSampler,
    ShapeDataModule,
    cloud_loader,
)
from pointpeft.training.pretraining_batches import PretrainingBatches
from pointpeft.training.processes import Share


def split(count, points=6):
    generator = np.random.default_rng(0)
    return ShapeSplit(
        generator.normal(size=(count, points, 3)).astype(np.float32),
        np.arange(count, dtype=np.int64),
        tuple(f"item{i}" for i in range(count)),
    )


def order(seed, epoch, length=20):
    sampler = EpochSampler(length, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_epoch_covers_every_item_once():
    assert sorted(order(0, 0)) == list(range(20))
    assert len(EpochSampler(20, 0)) == 20


def test_order_depends_on_seed_and_epoch_alone():
    expected = order(3, 5)
    torch.manual_seed(99)
    sampler = EpochSampler(20, 3)
    for epoch in (0, 5, 2, 5):
        sampler.set_epoch(epoch)
        seen = list(sampler)
    assert seen == expected
    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(each) for each in orders}) == 9


def batches(count, batch_size):
    module = ShapeDataModule(split(count), split(0), 4, batch_size)
    return [len(batch["label"]) for batch in module.train_dataloader()]


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(8, 4, [4, 4]), (9, 4, [4, 4]), (10, 4, [4, 4, 2]), (3, 4, [3]), (5, 2, [2, 2])],
)
def test_last_batch_of_one_is_dropped(count, batch_size, sizes):
    assert batches(count, batch_size) == sizes


def test_dropped_item_changes_with_the_epoch():
    module = ShapeDataModule(split(9), split(0), 4, 4)
    loader, dropped = module.train_dataloader(), set()
    for epoch in range(12):
        loader.sampler.set_epoch(epoch)
        seen = torch.cat([batch["index"] for batch in loader]).tolist()
        dropped |= set(range(9)) - set(seen)
    assert len(dropped) > 3


@pytest.mark.parametrize("count", [0, 1])
def test_refuses_fewer_than_two_items(count):
    with pytest.raises(DataError, match=r"data\.source"):
        ShapeDataModule(split(count), split(0), 4, 4)


def test_refuses_batches_of_one():
    with pytest.raises(ValueError, match="batch_size"):
        ShapeDataModule(split(4), split(0), 4, 1)


def test_validation_is_in_order_and_at_test_size():
    module = ShapeDataModule(split(4), split(7), 4, 2)
    seen = list(module.val_dataloader())
    assert torch.cat([batch["label"] for batch in seen]).tolist() == list(range(7))
    assert {batch["points"].shape[1] for batch in seen} == {4}
    assert module.train_dataloader().dataset.points.shape[1] == 6  # augmentation chooses among them


def test_without_validation_items_there_are_no_batches():
    assert ShapeDataModule(split(4), split(0), 4, 2).val_dataloader() == []


def test_batches_belong_together():
    data = split(5)
    for batch in cloud_loader(data, 4, 2):
        assert torch.equal(batch["points"], torch.from_numpy(data.points)[batch["index"], :4])
        assert torch.equal(batch["label"], batch["index"])


def test_each_epoch_brings_fresh_procedural_clouds():
    stored = split(3)
    loader = PretrainingBatches(stored, 5, num_points=4, batch_size=8, seed=2).train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        (batch,) = loader
        clouds = {cloud.tobytes() for cloud in batch["points"].numpy()}
        fresh = procedural_clouds(range(5 * epoch, 5 * epoch + 5), seed=2, num_points=4)
        assert clouds == {cloud.tobytes() for cloud in (*stored.points[:, :4], *fresh)}


def test_procedural_clouds_are_the_same_from_workers():
    def batches(num_workers):
        loader = PretrainingBatches(split(2), 4, 4, 3, num_workers).train_dataloader()
        loader.sampler.set_epoch(1)
        return torch.cat([batch["points"] for batch in loader])

    assert torch.equal(batches(0), batches(1))


def ragged(count):
    """Clouds of different sizes whose coordinates and part labels name cloud and point."""
    clouds = tuple(
        np.stack([np.full(9 + i, i), *2 * [np.arange(9 + i)]], axis=1).astype(np.float32)
        for i in range(count)
    )
    parts = tuple(np.arange(9 + i) for i in range(count))
    empty = np.empty((count, 4, 3), np.float32)
    ids = tuple(map(str, range(count)))
    return RaggedSplit(empty, np.arange(count), ids, clouds=clouds, parts=parts).redrawn(0)


def ragged_epoch(epoch, seed=0, num_workers=0):
    """All training batches and all validation batches of an epoch."""
    module = ShapeDataModule(ragged(6), ragged(5), 4, 2, num_workers, seed)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        yield {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def test_draws_from_clouds_of_different_sizes_depend_on_seed_and_epoch_alone():
    expected = list(ragged_epoch(3))
    for batch, count in zip(expected, (6, 5), strict=True):
        assert sorted(batch["index"].tolist()) == list(range(count))
        assert torch.equal(batch["label"], batch["index"])
        assert torch.equal(batch["points"][..., 0].long(), batch["index"][:, None].expand(-1, 4))
        assert torch.equal(batch["points"][..., 1].long(), batch["seg"])
    torch.manual_seed(99)
    for train_or_val, again in zip(expected, ragged_epoch(3, num_workers=1), strict=True):
        assert all(torch.equal(train_or_val[key], again[key]) for key in again)
    for other in (ragged_epoch(4), ragged_epoch(3, seed=1)):
        for one, another in zip(expected, other, strict=True):
            places = one["index"].argsort(), another["index"].argsort()
            assert not torch.equal(one["seg"][places[0]], another["seg"][places[1]])


def test_a_share_of_ragged_clouds_is_filled_up_with_no_item():
    module = ShapeDataModule(ragged(6), ragged(5), 4, 4, share=Share(1, 2))
    (batch,) = module.val_dataloader()
    assert batch["index"].tolist() == [1, 3, -1]
