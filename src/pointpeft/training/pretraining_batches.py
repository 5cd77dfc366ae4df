"""Batches for pre-training: of clouds in memory or in shards, and of procedural ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pointpeft.data import ShapeSplit
from pointpeft.data.procedural import procedural_clouds
from pointpeft.data.shards.shard_reader import WINDOW, ShardedShapes
from pointpeft.errors import DataError
from pointpeft.training.loaders import (
    EpochSampler,
    ResumableBatches,
    check_enough,
)
from pointpeft.training.processes import Share

__all__ = ["BlockSampler", "PretrainingBatches", "PretrainingClouds"]

_WHOLE = Share()  # the only process takes all
_FRESH_BLOCK = 256
"""Procedural shapes that are shuffled like a block of stored ones."""


class PretrainingClouds(Dataset):
    """Stored clouds and, beyond the last of them, an endless stream of procedural ones.

    What cannot be read of shards is said in ``"unreadable"`` of a batch, in place of an error,
    which would reach the trainer as the traceback of a worker.
    """

    def __init__(self, stored: ShapeSplit | ShardedShapes, num_points: int, seed: int = 0) -> None:
        self.stored, self.num_points, self.seed = stored, num_points, seed

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """A whole batch ``{"points", "index"}``; index ``len(stored) + k`` is number k made."""
        S = len(self.stored)
        places, fresh = [i for i in indices if i < S], [i for i in indices if i >= S]
        points, about = self._read(places)
        if fresh:
            made = procedural_clouds([i - S for i in fresh], self.seed, self.num_points)
            points = np.concatenate([points, made])
        return {
            "points": torch.from_numpy(points),
            "index": torch.tensor([*places, *fresh]),
            **about,
        }

    __getitems__ = batch  # which loaders call

    def names(self, index: Sequence[int]) -> list[str]:
        """What the shapes of a batch are called; those in shards with their shard."""
        S = len(self.stored)
        places = [i for i in index if i < S]
        if isinstance(self.stored, ShardedShapes):
            found = self.stored.names(places)
        else:
            found = [self.stored.ids[place] for place in places]
        return [*found, *(f"procedural shape {i - S}" for i in index if i >= S)]

    def _read(self, places: list[int]) -> tuple[np.ndarray, dict[str, list[str]]]:
        if not isinstance(self.stored, ShardedShapes):
            return self.stored.points[places, : self.num_points], {}
        try:
            points, problems = self.stored.read(places, self.num_points)
        except DataError as error:
            points = np.full((len(places), self.num_points, 3), np.nan, np.float32)
            problems = [str(error)]
        return points, {"unreadable": problems}


class BlockSampler(EpochSampler):
    """A new order each epoch that reads every block of shards once, and few blocks at a time.

    Blocks, those of shards and of as many fresh items, are put one behind the other at random.
    Each process takes an equal stretch, so that it reads its own blocks alone. Within windows of
    16 blocks the items are shuffled. All depends on the seed and the epoch alone.

    Args:
        blocks: items of each block.
        seed: of the order.
        fresh: as for :class:`EpochSampler`.
        share: which of the stretches is for this process.
    """

    def __init__(
        self, blocks: Sequence[np.ndarray], seed: int, fresh: int = 0, share: Share = _WHOLE
    ) -> None:
        super().__init__(sum(map(len, blocks)), seed, fresh, share)
        self.blocks = blocks

    def order(self) -> torch.Tensor:
        """The items of this process in this epoch, ``(len(self),)``."""
        first = self.length + self.epoch * self.fresh
        made = np.arange(first, first + self.fresh)
        blocks = [*self.blocks, *np.split(made, range(_FRESH_BLOCK, self.fresh, _FRESH_BLOCK))]
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(blocks))
        begin, pieces = -self.share.rank * len(self), []
        for block in (blocks[place] for place in order):
            piece = block[max(0, -begin) : max(0, len(self) - begin)]
            begin += len(block)
            pieces += [piece] if len(piece) else []
        rng = np.random.default_rng((self.seed, self.epoch, self.share.rank))
        windows = np.array_split(np.arange(len(pieces)), -(-len(pieces) // WINDOW))
        return torch.from_numpy(
            np.concatenate(
                [rng.permutation(np.concatenate([pieces[i] for i in window])) for window in windows]
            )
        )


class PretrainingBatches(ResumableBatches):
    """Shuffled batches for pre-training, see :class:`PretrainingClouds`.

    All stored clouds, of which there may be none, come once per epoch, with as many ``fresh``
    procedural ones, which one worker keeps off the trainer. All else is as for
    :class:`pointpeft.training.loaders.ShapeDataModule`.
    """

    def __init__(
        self,
        stored: ShapeSplit | ShardedShapes,
        fresh: int,
        num_points: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        drop_last: bool = False,
        share: Share = _WHOLE,
    ) -> None:
        super().__init__(stored, batch_size, num_workers, seed, drop_last, share)
        check_enough(len(stored) + fresh, share)
        self.clouds, self.fresh = PretrainingClouds(stored, num_points, seed), fresh

    def train_dataloader(self) -> DataLoader:
        """The batches of this process."""
        stored, seed = self.clouds.stored, self.seed
        sampler = (
            BlockSampler(stored.blocks(), seed, self.fresh, self.share)
            if isinstance(stored, ShardedShapes)
            else EpochSampler(len(stored), seed, self.fresh, self.share)
        )
        return self.begin(self.clouds, sampler)
