"""Clouds, served to Lightning batch by batch."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pointpeft.data import ShapeSplit
from pointpeft.data.benchmarks.benchmark import RaggedSplit
from pointpeft.data.cache import geometry_digest, short_digest
from pointpeft.data.shards.shard_reader import ShardedShapes
from pointpeft.errors import ConfigError, DataError
from pointpeft.training.config import VALIDATION_BATCH
from pointpeft.training.processes import Share

T = TypeVar("T")

__all__ = [
    "CloudDataset",
    "EpochSampler",
    "OrderedSampler",
    "RaggedClouds",
    "ResumableBatches",
    "ShapeDataModule",
    "check_enough",
    "cloud_loader",
    "training_loader",
]

_WHOLE = Share()  # the only process takes all


class CloudDataset(Dataset):
    """A split as a data set of whole batches: ``{"points", "label", "index"}``.

    Where the split has part labels, ``"seg"`` holds those of the points. The first ``num_points``
    of each (farthest-point ordered) cloud are kept; None keeps all.
    """

    def __init__(self, split: ShapeSplit, num_points: int | None = None) -> None:
        self.points = torch.from_numpy(split.points)[:, :num_points]
        self.labels = torch.from_numpy(split.labels)
        self.seg = None if split.seg is None else torch.from_numpy(split.seg)[:, :num_points]

    def __len__(self) -> int:
        return len(self.points)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once, gathered in one step."""
        index = torch.as_tensor(indices)
        batch = {"points": self.points[index], "label": self.labels[index], "index": index}
        return batch if self.seg is None else {**batch, "seg": self.seg[index]}


class RaggedClouds(CloudDataset):
    """Clouds of different sizes, an endless stream of draws from them with replacement.

    A draw depends on seed, epoch and cloud alone, whichever process makes it. No draw comes again,
    so ``"again"`` is -1. Clouds of a batch without ``"again"`` are known again by ``"index"``.
    """

    def __init__(self, split: RaggedSplit, seed: int) -> None:
        super().__init__(split)
        self.split, self.seed = split, seed

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch: index ``epoch * S + i`` is that epoch's draw of cloud i, -1 no item."""
        S = len(self)
        numbers = [index if index >= 0 else S - 1 for index in indices]
        points, seg = self.split.draw(numbers, self.seed)
        drawn = {
            "points": torch.from_numpy(points),
            "seg": torch.from_numpy(seg),
            "index": torch.tensor([index % S if index >= 0 else -1 for index in indices]),
            "again": torch.full((len(indices),), -1),
        }
        return {**super().__getitems__([number % S for number in numbers]), **drawn}


class EpochSampler(Sampler[int]):
    """A new order each epoch that depends on the seed and the epoch alone, so runs can resume.

    Several processes take turns, so that together their batches are those of one process. All
    shares are equally long: of items that cannot be shared out evenly the last ones are left out.

    Args:
        length: items that come up in every epoch.
        seed: of the order.
        fresh: further items per epoch, new ones in each; they are numbered on from ``length``.
        share: which of the items are for this process.
    """

    def __init__(self, length: int, seed: int, fresh: int = 0, share: Share = _WHOLE) -> None:
        self.length, self.seed, self.fresh, self.epoch = length, seed, fresh, 0
        self.share, self._begin = share, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return (self.length + self.fresh) // self.share.processes

    def begin_at(self, epoch: int, items: int) -> None:
        """Leave out the first items of an epoch, which comes next; later ones are whole."""
        self.epoch, self._begin = epoch, items

    def __iter__(self) -> Iterator[int]:
        begin, self._begin = self._begin, 0
        return iter(self.order()[begin:].tolist())

    def order(self) -> torch.Tensor:
        """The items of this process in this epoch, ``(len(self),)``."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length + self.fresh, generator=generator)
        order[order >= self.length] += self.epoch * self.fresh
        return order[self.share.rank :: self.share.processes][: len(self)]


class OrderedSampler(Sampler[int]):
    """The items of a split in file order.

    Several processes take turns. All shares are equally long: some are filled up with -1, which
    stands for no item. ``fresh`` items are new ones in each epoch, numbered on from those before.
    """

    def __init__(self, length: int, share: Share = _WHOLE, fresh: bool = False) -> None:
        self.length, self.share, self.fresh, self.epoch = length, share, fresh, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each validation."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.share.processes)

    def __iter__(self) -> Iterator[int]:
        places = range(self.share.rank, len(self) * self.share.processes, self.share.processes)
        first = self.epoch * self.length if self.fresh else 0
        return (first + place if place < self.length else -1 for place in places)


def cloud_loader(split: ShapeSplit, num_points: int, batch_size: int) -> DataLoader:
    """Batches in file order, neither shuffled nor augmented."""
    return DataLoader(CloudDataset(split, num_points), batch_size, collate_fn=_identity)


class ResumableBatches(L.LightningDataModule):
    """Training batches that a resumed run goes on with where the checkpoint was written.

    Lightning makes the first iterator of a run before it says which epoch it is for, so that with
    workers that load ahead a resumed run would begin with the order of another epoch.

    Args:
        stored: what is trained on.
        batch_size: clouds that all processes see at a time.
        num_workers: processes that load.
        seed: of the order.
        drop_last: leave a last batch out that is not full.
        share: of this process.
    """

    def __init__(
        self,
        stored: ShapeSplit | ShardedShapes,
        batch_size: int,
        num_workers: int,
        seed: int,
        drop_last: bool,
        share: Share,
    ) -> None:
        super().__init__()
        self.stored = stored
        self.batch_size, self.num_workers = share.batch_size(batch_size), num_workers
        self.seed, self.drop_last, self.share = seed, drop_last, share
        self._epoch, self._batches = 0, 0

    def begin(self, dataset: Dataset, sampler: EpochSampler) -> DataLoader:
        """A loader, whose first epoch goes on where the checkpoint says."""
        loader = training_loader(
            dataset, sampler, self.batch_size, self.num_workers, self.drop_last
        )
        if self._batches >= len(loader):  # as after the last batch of an epoch
            self._epoch, self._batches = self._epoch + 1, 0
        sampler.begin_at(self._epoch, self._batches * (loader.batch_size or 1))
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batch that come next, and of which shapes."""
        trainer: Any = self.trainer
        epochs, batches = (
            trainer.fit_loop.epoch_progress,
            trainer.fit_loop.epoch_loop.batch_progress,
        )
        ended = epochs.current.processed > epochs.current.completed
        return {
            "epoch": epochs.current.processed,
            "batches": 0 if ended else batches.current.ready,
            "content": self._content,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Those of the interrupted run.

        Raises:
            ConfigError: it was trained on other shapes or labels, or in another order, or begun by
                an earlier version, which did not say.
        """
        if state.get("content") != self._content:
            raise ConfigError(
                f"data.source holds {len(self.stored):,} training shapes now, and these, their "
                "labels or their order are not those that the run was begun with: mend it, or "
                "begin another run"
            )
        self._epoch, self._batches = state["epoch"], state["batches"]

    @cached_property
    def _content(self) -> str:
        """Hash of the shapes in their order, with their labels and those of their parts."""
        shapes = self.stored.digests or map(geometry_digest, self.stored.points)
        about = [each.encode() for each in shapes]
        if isinstance(self.stored, ShapeSplit):
            about.append(self.stored.labels.tobytes())
            about.append(b"" if self.stored.seg is None else self.stored.seg.tobytes())
        return short_digest(b"\n".join(about))


class ShapeDataModule(ResumableBatches):
    """Training and validation batches of a data set.

    Args:
        train: clouds to train on, with more points stored than the model sees if augmentation
            is to choose among them.
        val: clouds to validate on; may be empty.
        num_points: points of a validation cloud.
        batch_size: clouds per training batch of all processes; validation uses twice as many.
        num_workers: loader processes.
        seed: of the order of training items, and of draws from clouds of different sizes.
        drop_last: leave out a last training batch that is not full, unless it is the only one.
        share: what of a batch is for this process.

    Raises:
        DataError: there are fewer than two training clouds for a process.
        ConfigError: a batch cannot be shared out evenly, or has fewer than two for a process.
    """

    def __init__(
        self,
        train: ShapeSplit,
        val: ShapeSplit,
        num_points: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        drop_last: bool = False,
        share: Share = _WHOLE,
    ) -> None:
        super().__init__(train, batch_size, num_workers, seed, drop_last, share)
        check_enough(len(train), share)
        self.train, self.val, self.num_points = train, val, num_points

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; a last batch of one is dropped, since BatchNorm needs two."""
        S, ragged = len(self.train), isinstance(self.train, RaggedSplit)
        sampler = EpochSampler(0 if ragged else S, self.seed, S if ragged else 0, self.share)
        return self.begin(self._clouds(self.train), sampler)

    def val_dataloader(self) -> DataLoader | list:
        """Batches in file order, none without a validation split; index -1 is not to be counted."""
        if not len(self.val):
            return []
        dataset, size = self._clouds(self.val, self.num_points), VALIDATION_BATCH * self.batch_size
        sampler = OrderedSampler(len(self.val), self.share, isinstance(self.val, RaggedSplit))
        return _loader(dataset, size, self.num_workers, self.seed, sampler=sampler)

    def _clouds(self, split: ShapeSplit, num_points: int | None = None) -> CloudDataset:
        """Clouds of different sizes are drawn anew at every access, others served as they are."""
        if isinstance(split, RaggedSplit):
            return RaggedClouds(split, self.seed)
        return CloudDataset(split, num_points)


def check_enough(count: int, share: Share) -> None:
    """Refuse fewer than two training shapes for a process.

    Raises:
        DataError: there are fewer.
    """
    if count < 2 * share.processes:
        each = f" for each of {share.processes} processes" if share.processes > 1 else ""
        raise DataError(
            f"training needs two shapes or more{each}, the training split has {count}: add shapes "
            "to data.source"
        )


def training_loader(
    dataset: Dataset, sampler: EpochSampler, batch_size: int, num_workers: int, drop_last: bool
) -> DataLoader:
    """Shuffled batches, made in ``num_workers`` processes; a last one of one item is left out."""
    drop_last &= len(sampler) > batch_size  # a data set smaller than a batch is a batch
    drop_last |= len(sampler) % batch_size == 1
    return _loader(
        dataset, batch_size, num_workers, sampler.seed, sampler=sampler, drop_last=drop_last
    )


def _loader(
    dataset: Dataset, batch_size: int, num_workers: int, seed: int, **options: Any
) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size,
        collate_fn=_identity,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        # Its own generator: iterators must not draw from the one that training reseeds.
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def _identity(batch: T) -> T:
    return batch
