"""Linear-SVM evaluation of a backbone on a data set."""

from collections.abc import Callable

import lightning as L
import torch

from pointpeft.errors import ConfigError, DataError
from pointpeft.evaluation.classification import extract_features
from pointpeft.evaluation.svm import SvmResult, linear_svm
from pointpeft.tasks.config import FinetuneConfig
from pointpeft.tasks.finetuning import load_data, make_backbone

__all__ = ["evaluate_backbone"]


def evaluate_backbone(
    config: FinetuneConfig,
    C: float | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SvmResult, str]:
    """Fit a linear SVM on the train split's features and score it on the test split.

    A stated validation split is not used: C comes from cross-validation on train, or is given.

    Args:
        config: model, weights, data and seed (of random weights); the rest is not looked at.
        C: inverse regularisation strength.
        device: where to encode.
        progress: called with (done, total) while shapes are read.

    Returns:
        The result, and a phrase that names the weights.

    Raises:
        ConfigError: C is not positive.
        DataError: there is no test split, or too little to train on.
    """
    if C is not None and not C > 0:
        raise ConfigError(f"--C must be positive, got {C}")
    L.seed_everything(config.seed, verbose=False)
    backbone, weights = make_backbone(config)
    backbone = backbone.to(device)
    data = load_data(config.data, backbone.spec.num_points, progress, needed=("test",))
    if not len(data.test):
        raise DataError(
            f"{config.data.source} has no test split, and its classes are too small to cut one"
        )
    train, test = (
        extract_features(backbone, torch.from_numpy(part.points)[:, : data.transform.num_points])
        for part in (data.train, data.test)
    )
    result = linear_svm(train, data.train.labels, test, data.test.labels, C)
    return result, f"weights {weights}" if weights else f"random weights (seed {config.seed})"
