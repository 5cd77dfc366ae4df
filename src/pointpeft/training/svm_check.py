"""A linear SVM on frozen features, again and again while a backbone is pre-trained."""

import logging
import warnings
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure.class_scores import encode_batches, extract_features
from pointpeft.measure.svm import linear_svm
from pointpeft.models.trunk import Trunk
from pointpeft.peft.bank import eval_mode
from pointpeft.training.best_epoch import BestEpoch, Keep
from pointpeft.training.config import DataConfig, SvmCheckConfig
from pointpeft.training.inputs import load_data
from pointpeft.training.protocol import Protocol

__all__ = ["SvmCheck"]

log = logging.getLogger("pointpeft")


class SvmCheck(BestEpoch):
    """Logs ``svm_accuracy``, 0 to 1.

    The protocol says on which split, and of which features; honestly they are the encoder's
    retrieval features on the validation split.

    Args:
        config: data, machine, C and how often.
        protocol: of the run.
        keep: what is done with the best epoch.

    Raises:
        DataError: unusable data, no split to measure on, or too few shapes of a class to choose C.
    """

    metric = "svm_accuracy"
    label, form = "svm", ".1%"

    def __init__(self, config: SvmCheckConfig, protocol: Protocol, keep: Keep) -> None:
        super().__init__(config.every, keep)
        self.config = config
        self.protocol, self.split = protocol, protocol.selects_on
        data = _load(config, protocol)
        self.train, self.held_out = (
            _prepare(part, config, protocol) for part in (data.train, getattr(data, self.split))
        )
        if config.C is None and np.unique(self.train.labels, return_counts=True)[1].min() < 2:
            raise DataError(
                f"{config.source} has a class with a single training shape, so that C cannot be "
                "chosen by cross-validation: pass svm.C (in the papers: 0.01)"
            )

    def on_fit_start(self, trainer: L.Trainer, task: Any) -> None:
        """Refuse a network without features for an SVM."""
        if not isinstance(getattr(task.model, "backbone", None), Trunk):
            raise ConfigError("svm.source is for encoders: this network has no retrieval features")

    def measure(self, model: Any) -> float:
        """Accuracy of a linear SVM on features of ``model``."""
        with eval_mode(model):
            train, test = (self._features(model, part) for part in (self.train, self.held_out))
        labels = self.train.labels, self.held_out.labels
        if self.config.machine == "linear_svc":
            return _one_against_rest(train, labels[0], test, labels[1], self.config.C)
        return linear_svm(train, labels[0], test, labels[1], self.config.C).accuracy

    def _features(self, model: Any, part: ShapeSplit) -> NDArray:
        points = torch.from_numpy(part.points)
        encode = self.protocol.svm_features(model)
        if encode is None:
            return extract_features(model.backbone, points, self.protocol.faulty)
        return encode_batches(encode, points, next(model.parameters()).device)


def _one_against_rest(
    features: NDArray, labels: NDArray, test: NDArray, test_labels: NDArray, C: float | None
) -> float:
    """Accuracy of ``sklearn.svm.LinearSVC``, all else default."""
    machine = LinearSVC(C=C, random_state=0)
    with warnings.catch_warnings():  # its default number of iterations is part of the measure
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine.fit(features, labels)
    return float(machine.score(test, test_labels))


def _load(config: SvmCheckConfig, protocol: Protocol) -> ShapeData:
    data = load_data(
        DataConfig(
            source=str(config.source),
            variant=config.variant,
            normalize=config.normalize,
            num_points=config.num_points,
        ),
        config.num_points,
        protocol=protocol,
        farthest=False,
    )
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
