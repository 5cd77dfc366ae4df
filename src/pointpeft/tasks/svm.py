"""Linear-SVM evaluation of a backbone on a data set."""

from collections.abc import Callable

import lightning as L
import torch

from pointpeft.evaluation.classification import extract_features
from pointpeft.evaluation.svm import SvmResult, linear_svm
from pointpeft.tasks.config import DataConfig, FinetuneConfig
from pointpeft.tasks.finetuning import load_data, make_backbone

__all__ = ["evaluate_backbone"]


def evaluate_backbone(
    model: str,
    source: str,
    checkpoint: str | None = None,
    preset: str | None = None,
    C: float | None = None,
    seed: int = 0,
    up_axis: str = "y",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SvmResult, str]:
    """Fit a linear SVM on the train split's features and score it on the test split.

    The validation split is not used: C comes from cross-validation on train, or is given.

    Args:
        model: registry name.
        source: labelled data.
        checkpoint: weights; None: the shipped ones, or random ones drawn with ``seed``.
        preset: published sizes.
        C: inverse regularisation strength.
        seed: of random weights.
        up_axis: axis of the files that points up.
        device: where to encode.
        progress: called with (done, total) while shapes are read.

    Returns:
        The result, and a phrase that names the weights.
    """
    L.seed_everything(seed, verbose=False)
    backbone, weights = make_backbone(
        FinetuneConfig(model=model, preset=preset, checkpoint=checkpoint)
    )
    backbone = backbone.to(device)
    num_points = backbone.spec.num_points
    data = load_data(DataConfig(source=source, up_axis=up_axis), num_points, progress)
    train, test = (
        extract_features(backbone, torch.from_numpy(part.points)[:, :num_points])
        for part in (data.train, data.test)
    )
    result = linear_svm(train, data.train.labels, test, data.test.labels, C)
    return result, f"weights {weights}" if weights else f"random weights (seed {seed})"
