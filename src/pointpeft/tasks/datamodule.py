"""Clouds in memory, served to Lightning batch by batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pointpeft.data import ShapeSplit
from pointpeft.errors import ConfigError, DataError

__all__ = ["CloudDataset", "EpochSampler", "ShapeDataModule", "cloud_loader"]


class CloudDataset(Dataset):
    """A split as a data set of whole batches: ``{"points", "label", "index"}``.

    Args:
        split: prepared clouds.
        num_points: keep the first ones of each (farthest-point ordered) cloud; None keeps all.
    """

    def __init__(self, split: ShapeSplit, num_points: int | None = None) -> None:
        self.points = torch.from_numpy(split.points)[:, :num_points]
        self.labels = torch.from_numpy(split.labels)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: value[0] for key, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once, gathered in one step."""
        index = torch.as_tensor(indices)
        return {"points": self.points[index], "label": self.labels[index], "index": index}


class EpochSampler(Sampler[int]):
    """A new order each epoch that depends on the seed and the epoch alone, so runs can resume."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.length, generator=generator).tolist())


def cloud_loader(split: ShapeSplit, num_points: int, batch_size: int) -> DataLoader:
    """Batches in file order, neither shuffled nor augmented."""
    return DataLoader(CloudDataset(split, num_points), batch_size, collate_fn=_identity)


class ShapeDataModule(L.LightningDataModule):
    """Training and validation batches of a data set.

    Args:
        train: clouds to train on, with more points stored than the model sees if augmentation
            is to choose among them.
        val: clouds to validate on; may be empty.
        num_points: points of a validation cloud.
        batch_size: clouds per training batch; validation uses twice as many.
        num_workers: loader processes.
        seed: of the order of training items.
    """

    def __init__(
        self,
        train: ShapeSplit,
        val: ShapeSplit,
        num_points: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(train) < 2:
            raise DataError(f"training needs two shapes or more, the train split has {len(train)}")
        if batch_size < 2:
            raise ConfigError(f"batch_size must be at least 2 for BatchNorm, got {batch_size}")
        self.train, self.val = train, val
        self.num_points, self.batch_size, self.seed = num_points, batch_size, seed
        self.num_workers = num_workers

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; a last batch of one is dropped, since BatchNorm needs two."""
        return self._loader(
            CloudDataset(self.train),
            self.batch_size,
            sampler=EpochSampler(len(self.train), self.seed),
            drop_last=len(self.train) % self.batch_size == 1,
        )

    def val_dataloader(self) -> DataLoader | list:
        """Batches in file order; none without a validation split."""
        if not len(self.val):
            return []
        return self._loader(CloudDataset(self.val, self.num_points), 2 * self.batch_size)

    def _loader(self, dataset: CloudDataset, batch_size: int, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size,
            collate_fn=_identity,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # Its own generator: iterators must not draw from the one that training reseeds.
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )


def _identity(batch: Any) -> Any:
    return batch
