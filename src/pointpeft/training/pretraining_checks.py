"""Measuring a network again and again while it is pre-trained, and keeping it at its best."""

import abc
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.chunks import in_batches
from pointpeft.data.shards import ShardedShapes
from pointpeft.data.transforms import Transform
from pointpeft.errors import ConfigError, DataError, TrainingError
from pointpeft.measure.scores import encode_batches, extract_features
from pointpeft.measure.svm import linear_svm
from pointpeft.models.dvae import DiscreteVAE
from pointpeft.models.network import Network
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.ops import chamfer_distance
from pointpeft.peft.bank import eval_mode
from pointpeft.peft.linear_svm import forced_strength
from pointpeft.training.config import DataConfig, SvmCheckConfig
from pointpeft.training.inputs import load_data
from pointpeft.training.pretraining_batches import PretrainingClouds
from pointpeft.training.processes import on_first_process
from pointpeft.training.protocol import Protocol

__all__ = ["BestEpoch", "Keep", "RebuildingCheck", "SvmCheck"]

log = logging.getLogger("pointpeft")

Keep = Callable[[Pretrainable, int, float], None]
"""Called with a model that is the best so far, the epochs it was trained for, and its value."""


def _network(task: L.LightningModule) -> Pretrainable:
    """What is pre-trained."""
    assert isinstance(task.model, Pretrainable), "no other task has these callbacks"
    return task.model


class BestEpoch(L.Callback, abc.ABC):
    """Logs a value every so many epochs and has the best epoch kept.

    The first of several processes measures. An epoch without a measurement has no value in the
    history, not that of an earlier one.

    Args:
        every: epochs from one measurement to the next.
        keep: what is done with the best epoch; of equal ones the first counts.

    Attributes:
        metric: name of the value.
        label: what the progress line calls it.
        form: its format there.
        split: name of the split that is measured, "val" or "test".
        larger_is_better: whether the best value is the largest.
        best: the best value so far; None before the first one.
        best_epoch: the epoch that it was measured after, from 1.
    """

    metric: str
    label: ClassVar[str]
    form: ClassVar[str]
    split: str
    larger_is_better: ClassVar[bool] = True

    def __init__(self, every: int, keep: Keep) -> None:
        self.every, self.keep = every, keep
        self.best: float | None = None
        self.best_epoch: int | None = None

    @abc.abstractmethod
    def measure(self, model: Pretrainable) -> float:
        """The value of a pre-training model, which keeps its mode."""

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """That of the interrupted run."""
        self.best, self.best_epoch = state["best"], state.get("best_epoch")

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Forget the value of an earlier epoch, which the trainer would show again."""
        trainer.callback_metrics.pop(self.metric, None)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Measure, log, and have the model kept if it is the best."""
        epochs = trainer.current_epoch + 1
        if epochs % self.every:
            return
        value = on_first_process(trainer, lambda: self._measure(_network(task), epochs))
        task.log(self.metric, value)
        if self._is_best(value):
            self.best, self.best_epoch = value, epochs

    def _measure(self, model: Pretrainable, epochs: int) -> float:
        value = self.measure(model)
        if not math.isfinite(value):
            raise TrainingError(f"{self.metric} is {value} after epoch {epochs}")
        if self._is_best(value):
            self.keep(model, epochs, value)
        return value

    def _is_best(self, value: float) -> bool:
        if self.best is None:
            return True
        return value > self.best if self.larger_is_better else value < self.best


class SvmCheck(BestEpoch):
    """Logs ``svm_accuracy``, 0 to 1.

    The protocol says on which split, and of which features; honestly they are the encoder's
    retrieval features on the validation split.

    Args:
        config: data, machine, C and how often.
        protocol: of the run.
        keep: what is done with the best epoch.
        training: how the shapes of the run are read; those of the SVM are scaled, turned and cut
            alike.
        known: what the shapes are known by that the run trains on, and those that its encoder was
            trained on before; a warning says how many of those that are measured are among them.

    Raises:
        DataError: unusable data, or no split to measure on.
    """

    metric = "svm_accuracy"
    label, form = "svm", ".1%"

    def __init__(
        self,
        config: SvmCheckConfig,
        protocol: Protocol,
        keep: Keep,
        training: DataConfig,
        known: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(config.every, keep)
        self.config = config
        self.protocol, self.split = protocol, protocol.selects_on
        data = _load(config, protocol, training)
        train, held_out = data.train, getattr(data, self.split)
        if count := int(held_out.among(known).sum()):
            log.warning(
                "svm.source=%s: the encoder is trained, without classes, on %d of the %d shapes "
                "that are measured", config.source, count, len(held_out),
            )  # fmt: skip
        self.train, self.held_out = (_prepare(part, config, protocol) for part in (train, held_out))
        self.C = forced_strength(self.train.labels) if config.C is None else config.C

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Refuse a network without features for an SVM, and clouds too small for its patches."""
        if not isinstance(task.model, Network):
            raise ConfigError("svm.source is for encoders: this network has no retrieval features")
        one = torch.from_numpy(self.train.points[:1])
        try:
            with eval_mode(task.model), torch.no_grad():
                task.model.backbone.tokenize(one.to(task.device))
        except DataError as error:
            raise ConfigError(f"svm.num_points={self.config.num_points}: {error}") from error

    def measure(self, model: Pretrainable) -> float:
        """Accuracy of a linear SVM on features of ``model``."""
        with eval_mode(model):
            train, test = (self._features(model, part) for part in (self.train, self.held_out))
        labels = self.train.labels, self.held_out.labels
        if self.config.machine == "svc":
            return linear_svm(train, labels[0], test, labels[1], self.C).accuracy
        with warnings.catch_warnings():  # the default number of iterations is part of the measure
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine = LinearSVC(C=self.C, random_state=0).fit(train, labels[0])
        return float(machine.score(test, labels[1]))

    def _features(self, model: Pretrainable, part: ShapeSplit) -> NDArray:
        points = torch.from_numpy(part.points)
        encode = self.protocol.svm_features(model)
        if encode is None:
            assert isinstance(model, Network), "checked before"
            return extract_features(model.backbone, points, self.protocol.features)
        return encode_batches(encode, points, next(model.parameters()).device)


def _load(config: SvmCheckConfig, protocol: Protocol, training: DataConfig) -> ShapeData:
    source = DataConfig(
        str(config.source),
        config.variant,
        config.num_points,
        config.normalize or protocol.svm_normalize or training.normalize,
        config.up_axis or training.up_axis,
        on_error=training.on_error,
        val_fraction=training.val_fraction or DataConfig.val_fraction,  # 0: it trains on all shapes
        seed=training.seed,
    )
    data = load_data(source, config.num_points, protocol=protocol, farthest=False)
    if not len(getattr(data, protocol.selects_on)):
        raise DataError(f"{config.source} has no split for svm.source to measure on")
    log.info("linear SVM on %s every %d epochs", config.source, config.every)
    return data


def _prepare(part: ShapeSplit, config: SvmCheckConfig, protocol: Protocol) -> ShapeSplit:
    """Clouds of as many points as are measured."""
    if config.farthest:
        part = protocol.in_order(part, config.num_points)
    points = part.points[:, : config.num_points]
    return ShapeSplit(points, part.labels, part.ids)


_BATCH = 32


class RebuildingCheck(BestEpoch):
    """Logs the Chamfer-L1 distance of rebuilt clouds as ``<split>_chamfer_l1``; the least is best.

    Args:
        clouds: that are not trained on; those of shards are in memory a batch at a time.
        draw: makes of a batch of them what the network sees.
        every: epochs from one measurement to the next.
        keep: what is done with the best epoch.
        split: of which the clouds are, "val" or "test".
        skip: whether those that cannot be read are left out; else they end the run.
    """

    label, form = "rebuilt", ".5f"
    larger_is_better = False

    def __init__(
        self,
        clouds: PretrainingClouds,
        draw: Transform,
        every: int,
        keep: Keep,
        split: str = "val",
        skip: bool = False,
    ) -> None:
        super().__init__(every, keep)
        self.metric, self.split = f"{split}_chamfer_l1", split
        self.clouds, self.draw, self.skip = clouds, draw, skip
        self.told = set[str]()

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Refuse a network that rebuilds nothing."""
        if not isinstance(task.model, DiscreteVAE):
            raise ConfigError(
                "validate_every is for tokenizers (model=point_bert_dvae); encoders are measured "
                "by a linear SVM: svm.source=DATA"
            )

    @torch.no_grad()
    def measure(self, model: Pretrainable) -> float:
        """Mean over the clouds, in the unit of their coordinates.

        Raises:
            DataError: one cannot be read, or with ``skip`` none can.
        """
        assert isinstance(model, DiscreteVAE), "checked before"
        device, total, count = next(model.parameters()).device, 0.0, 0
        with eval_mode(model):
            for places in self._batches():
                batch = self.clouds.batch(places)
                if problems := batch.get("unreadable"):
                    self._leave_out(problems)
                    continue
                seen = self.draw(batch["points"].to(device))
                distance = chamfer_distance(model.rebuild_clouds(seen), seen, norm="l1")
                total, count = total + len(seen) * distance.item(), count + len(seen)
        if not count:
            raise DataError(f"none of the {len(self.clouds.stored)} held-out shapes can be read")
        return total / count

    def _batches(self) -> Iterator[list[int]]:
        """Places of clouds; those of a batch are of one block of a shard, read or lost together."""
        stored = self.clouds.stored
        blocks = stored.blocks() if isinstance(stored, ShardedShapes) else [range(len(stored))]
        for block in blocks:
            yield from in_batches(map(int, block), _BATCH)

    def _leave_out(self, problems: list[str]) -> None:
        text = "; ".join(problems)
        if not self.skip:
            raise DataError(text)
        if text not in self.told:
            log.warning("held-out shapes are left out: %s", text)
        self.told.add(text)
