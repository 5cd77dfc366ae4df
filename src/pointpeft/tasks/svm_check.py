"""A linear SVM on frozen features, again and again while a backbone is pre-trained."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from pointpeft.data import ShapeData
from pointpeft.errors import ConfigError, DataError
from pointpeft.evaluation.classification import extract_features
from pointpeft.evaluation.svm import linear_svm
from pointpeft.models import save_model
from pointpeft.peft.bank import eval_mode
from pointpeft.tasks.config import DataConfig, SvmCheckConfig
from pointpeft.tasks.inputs import load_data

__all__ = ["SvmCheck"]

log = logging.getLogger("pointpeft")


class SvmCheck(L.Callback):
    """Logs ``svm_accuracy`` and keeps the weights of the epoch where it is highest.

    It is measured on the validation split, and as published on the test split, by the first of
    several processes.

    Args:
        config: data, C and how often.
        protocol: "honest" or "published".
        path: where the best weights go.

    Raises:
        DataError: unusable data, or no split to measure on.
    """

    def __init__(self, config: SvmCheckConfig, protocol: str, path: Path) -> None:
        self.config, self.path = config, path
        self.published = protocol == "published"
        self.best = -1.0
        self.data = _load(config, protocol)

    def state_dict(self) -> dict[str, Any]:
        """The best accuracy so far."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """That of the interrupted run."""
        self.best = state["best"]

    def on_fit_start(self, trainer: L.Trainer, task: Any) -> None:
        """Refuse a network without features for an SVM."""
        if not hasattr(getattr(task.model, "backbone", None), "retrieval_features"):
            raise ConfigError("svm.source is for encoders: this network has no retrieval features")

    def on_train_epoch_end(self, trainer: L.Trainer, task: Any) -> None:
        """Measure, log, and keep the weights if they are the best."""
        if (trainer.current_epoch + 1) % self.config.every or not trainer.is_global_zero:
            return
        accuracy = self.measure(task.model.backbone)
        task.log("svm_accuracy", accuracy, rank_zero_only=True)
        if accuracy > self.best:
            self.best = accuracy
            save_model(task.model.backbone, self.path, epochs=trainer.current_epoch + 1)

    def measure(self, backbone: Any) -> float:
        """Accuracy of a linear SVM on the features of ``backbone``, 0 to 1."""
        data, n = self.data, self.config.num_points
        held_out = data.test if self.published else data.val
        with eval_mode(backbone):
            train, test = (
                extract_features(
                    backbone, torch.from_numpy(part.points)[:, :n], reference_compat=self.published
                )
                for part in (data.train, held_out)
            )
        labels = data.train.labels, held_out.labels
        return linear_svm(train, labels[0], test, labels[1], self.config.C).accuracy


def _load(config: SvmCheckConfig, protocol: str) -> ShapeData:
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
    if not len(data.test if protocol == "published" else data.val):
        raise DataError(f"{config.source} has no split for svm.source to measure on")
    log.info("linear SVM on %s every %d epochs", config.source, config.every)
    return data
