"""The memory bank of a run: built once, by the first process, for all seeds and processes."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import torch

from pointpeft.data import ShapeData
from pointpeft.measure.evaluate import choose_device
from pointpeft.models import state_hash
from pointpeft.peft import MemoryBank
from pointpeft.progress import Meter
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.loaders import cloud_loader
from pointpeft.training.processes import is_first_process
from pointpeft.training.resolved import ResolvedRun

__all__ = ["Banks", "training_device"]

log = logging.getLogger("pointpeft")


def training_device(config: FinetuneConfig) -> str:
    """The torch device that the first process of a run trains on."""
    return "cpu" if config.trainer.accelerator == "cpu" else choose_device("auto")


class Banks:
    """Makes the memory banks of a run, one for each encoder.

    Args:
        data: whose training shapes are kept.
        run: the run.
    """

    def __init__(self, data: ShapeData, run: ResolvedRun) -> None:
        self.data, self.run = data, run
        self._built: dict[str, MemoryBank] = {}

    def of(self, backbone: Any, reference_compat: bool = False) -> MemoryBank:
        """The bank of an encoder, on the CPU.

        In other processes than the first one it has no content before training begins, when
        :meth:`pointpeft.tasks.tuning_module.TuningModule.setup` brings it.

        Args:
            backbone: the encoder, before a method is attached; it is left on the CPU.
            reference_compat: features with the faults of the papers' code.
        """
        train = self.data.train
        if not is_first_process():
            empty = torch.zeros(backbone.num_features, len(train), dtype=torch.float16)
            return MemoryBank(empty, torch.from_numpy(train.labels), train.ids)
        encoder = state_hash(backbone)
        if encoder not in self._built:
            backbone.to(training_device(self.run.config))
            with torch.random.fork_rng([]):  # loaders draw; a seed is to mean the same without
                bank = MemoryBank.build(backbone, self._batches(), reference_compat)
            backbone.cpu()
            log.info("memory bank: %d items of %d channels", len(bank), bank.features.shape[0])
            self._built[encoder] = bank
        return copy.deepcopy(self._built[encoder])  # it becomes part of the model

    def _batches(self) -> Iterator[dict[str, Any]]:
        num_points, train = self.data.transform.num_points, self.data.train
        train = self.run.protocol.in_order(train, num_points)
        loader = cloud_loader(train, num_points, self.run.config.trainer.batch_size)
        with Meter("memory bank") as meter:
            for place, batch in enumerate(loader):
                yield {**batch, "id": [train.ids[item] for item in batch["index"].tolist()]}
                meter.update(place + 1, len(loader))
