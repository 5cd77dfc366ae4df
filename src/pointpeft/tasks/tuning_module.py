"""What the Lightning modules of all fine-tuning tasks have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MeanMetric

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.transforms import Compose, FirstPoints
from pointpeft.errors import CheckpointError
from pointpeft.models.trunk import Tokenized
from pointpeft.peft import PeftModel
from pointpeft.peft.method import Constants
from pointpeft.training.optimizer import Schedule, configure_adamw
from pointpeft.training.run_folder import ENCODER_HASH, AtomicCheckpointIO

_STORED = "model."
"""Before the names of an adapter's entries in a checkpoint."""

__all__ = ["MOST_CONSTANT_BYTES", "TIE_WEIGHT", "TuningModule", "held_out"]

MOST_CONSTANT_BYTES = 2 * 2**30
"""Bytes that are kept of clouds that come again; what is beyond them is computed each time."""

TIE_WEIGHT = 1e-4
"""Of the loss in the validation score: it only decides between epochs that are equally good."""


def held_out(data: ShapeData) -> tuple[ShapeSplit, str]:
    """The shapes that a report shows, and what they are in a word."""
    return (data.test, "test") if len(data.test) else (data.val, "validation")


class TuningModule(L.LightningModule):
    """Trains a :class:`PeftModel`; sub-classes say by which loss.

    Checkpoints hold what the adapter holds, not the frozen encoder.

    Args:
        model: the adapted model.
        schedule: learning rate and decay.
        augmentation: random transform of training clouds, applied to whole batches.
        split: name of the split that validation measures.

    Attributes:
        validated: what validation measures; it is logged as ``<split>_<name>``.
    """

    validated: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: PeftModel,
        schedule: Schedule,
        augmentation: Compose,
        split: str = "val",
    ) -> None:
        super().__init__()
        self.means = nn.ModuleDict({name: MeanMetric() for name in self.validated})
        self.split = split
        self.model = model
        self.schedule = schedule
        self.augmentation = augmentation
        self.strict_loading = False
        self._repeated = all(isinstance(step, FirstPoints) for step in augmentation.steps)
        self._constants: dict[str, dict[int, Constants]] = {"train": {}, split: {}}
        self._kept_bytes = dict.fromkeys(self._constants, 0)

    @torch.no_grad()
    def constants(self, split: str, points: Tensor, batch: Mapping[str, Tensor]) -> Constants:
        """What training leaves as it is of clouds that come again, from when they came first.

        Args:
            split: "train", whose clouds come again where augmentation leaves them alone, or the
                one that is validated.
            points: ``(B, N, 3)``.
            batch: that they are of. ``"again"``, or without it ``"index"``, ``(B,)``, says which
                cloud of the split each is, point for point; -1: none that comes again.

        Returns:
            Arguments of the model, see :meth:`pointpeft.Tuner.constants`, and ``points``.
        """
        if split == "train" and not self._repeated:
            return {"points": points}
        known, places = self._constants[split], batch.get("again", batch["index"]).tolist()
        missing = [row for row, place in enumerate(places) if place not in known]
        found = self.model.tuner.constants(self.model.model, points[missing]) if missing else {}
        new = {
            row: {name: _row(values, n) for name, values in found.items()}
            for n, row in enumerate(missing)
        }
        for row, of_cloud in new.items():
            if places[row] >= 0 and self._kept_bytes[split] < MOST_CONSTANT_BYTES * _share(split):
                known[places[row]] = of_cloud
                self._kept_bytes[split] += sum(values.nbytes for values in of_cloud.values())
        if len(missing) == len(places):
            return {"points": points, **found}
        each = [new[row] if row in new else known[place] for row, place in enumerate(places)]
        return {
            "points": points,
            **{name: _joined([one[name] for one in each]) for name in each[0]},
        }

    def log_training(self, values: Mapping[str, Tensor], items: int) -> None:
        """Log means over the epoch of values that are means over the ``items`` of a batch."""
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=items, sync_dist=True)

    def log_means(self, values: Mapping[str, Tensor], index: Tensor) -> None:
        """Log means over the split that epochs are selected on.

        Args:
            values: by name, one of each item of a batch, ``(B,)``.
            index: places of the items in the split, ``(B,)``; those at -1 are not counted.
        """
        for name, of_items in values.items():
            self.means[name].update(of_items[index >= 0].float())  # type: ignore[operator]
            self.log(f"{self.split}_{name}", self.means[name])  # type: ignore[arg-type]

    def setup(self, stage: str) -> None:
        """Give every process the memory bank that the first one has built."""
        if (bank := self.model.bank) is not None:
            bank.features = self.trainer.strategy.broadcast(bank.features)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, warm-up and cosine."""
        return configure_adamw(self, self.schedule)

    def configure_gradient_clipping(self, *optimizer: Any, **limit: Any) -> None:
        """Clip before the step, or between the two steps of a batch."""
        if not self.schedule.settings.steps_twice:
            super().configure_gradient_clipping(*optimizer, **limit)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *rest: Any) -> None:
        """One step, or two with the same gradient, see ``optimizer.steps_twice``."""
        super().optimizer_step(epoch, batch_idx, optimizer, *rest)
        if self.schedule.settings.steps_twice:
            self.clip_gradients(optimizer, self.schedule.settings.grad_clip, "norm")
            optimizer.optimizer.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what the base encoder holds."""
        kept = self.model.adapter.stored_state()
        checkpoint["state_dict"] = {_STORED + name: tensor for name, tensor in kept.items()}
        checkpoint[ENCODER_HASH] = self.model.base_hash

    def keep(self, path: Path, epoch: int) -> None:
        """Write what :meth:`load_best` reads."""
        checkpoint: dict[str, Any] = {"epoch": epoch}
        self.on_save_checkpoint(checkpoint)
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)

    def load_best(self, path: Path) -> int:
        """Take over the trained tensors of a checkpoint.

        Returns:
            The number of its epoch, from 0.

        Raises:
            CheckpointError: it lacks something that is trained, or holds something unknown.
        """
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = self._checked(content["state_dict"], str(path))
        self.model.adapter.load_state_dict(state, strict=False)  # entries were checked
        return int(content["epoch"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a run of another model, as an older version may have built it.

        Raises:
            CheckpointError: it lacks something that is trained, or holds something unknown.
        """
        state = self._checked(checkpoint["state_dict"], "the checkpoint to resume from")
        inside = f"model.adapters.{self.model.active}."
        checkpoint["state_dict"] = {inside + name: tensor for name, tensor in state.items()}

    def _checked(self, stored: Mapping[str, Any], source: str) -> dict[str, Any]:
        """The entries of a checkpoint under the names that the adapter has for them."""
        state = {name.removeprefix(_STORED): tensor for name, tensor in stored.items()}
        wrong = self.model.adapter.wrong_entries(state)
        if any(wrong.values()):
            listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items())
            raise CheckpointError(
                f"{source} is of another model than the run's, or of another version of pointpeft, "
                f"with which it can be resumed; entries {listed}"
            )
        return state


def _share(split: str) -> float:
    """Of the bytes that are kept: training comes first, and must not leave validation without."""
    return 0.75 if split == "train" else 0.25


def _row(values: Tensor | Tokenized, row: int) -> Tensor | Tokenized:
    """A copy of one row, which does not hold the batch; still a batch, of one."""
    place = torch.tensor([row])
    return values.rows(place) if isinstance(values, Tokenized) else values[place]


def _joined(rows: Sequence[Any]) -> Tensor | Tokenized:
    first = rows[0]
    return type(first).joined(rows) if isinstance(first, Tokenized) else torch.cat(list(rows))
