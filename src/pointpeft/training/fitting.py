"""Methods that are fitted to frozen features at once, and the SVM that trained ones are held to."""

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointpeft.data import ShapeData
from pointpeft.data.transforms import SCAN, RandomScan, RandomSubset, pool_size
from pointpeft.errors import DataError
from pointpeft.formats import display_name, percent
from pointpeft.measure.analysis import model_outputs
from pointpeft.measure.calibration import fit_temperature
from pointpeft.measure.scores import extract_features
from pointpeft.measure.svm import linear_svm
from pointpeft.peft import PeftModel
from pointpeft.peft.all_blocks import Discriminant, DiscriminantHead, discriminant
from pointpeft.peft.bank import eval_mode
from pointpeft.peft.linear_svm import choose_strength
from pointpeft.peft.method import FittedTuner
from pointpeft.peft.training_features import draw_by_class
from pointpeft.training.inputs import make_backbone, training_device
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.run_folder import RunFolder

__all__ = ["begin_head", "fit_method", "svm_beside"]

log = logging.getLogger("pointpeft")

_DRAWS = 4  # samplings of each training shape that a head begins with
_USUAL_TEMPERATURE = 15.0  # of scores of linear discriminant analysis; few shapes do not tell
_CALIBRATED_FROM = 20  # shapes

_MOST_SHAPES = 20_000
"""Training shapes beyond which no SVM is fitted beside a run: its time grows with their square."""
_MOST_VALIDATED = 2000
"""Shapes by which its C is chosen; of more a draw by class."""


def fit_method(model: PeftModel, resolved: ResolvedRun, data: ShapeData) -> dict[str, Any]:
    """Fit a method such as ``svm`` to the training shapes; see :class:`FittedTuner`.

    Returns:
        What ``metrics.json`` holds of it: seconds, and what the method reports.
    """
    started, tuner = time.monotonic(), model.tuner
    assert isinstance(tuner, FittedTuner)
    model.to(training_device(resolved.config)).eval()
    draws = _draws(resolved, data, tuner.draws)
    found = [extract_features(model.trunk, draw, tuner.fitted_features) for draw in draws]
    features = torch.from_numpy(np.concatenate(found))
    labels = torch.from_numpy(data.train.labels).long().repeat(tuner.draws)
    ids = list(data.train.ids) * tuner.draws
    report = tuner.fit(features, labels, ids)
    tuner.to(next(model.trunk.parameters()).device)
    return {"fit_seconds": time.monotonic() - started, **report}


def begin_head(model: PeftModel, resolved: ResolvedRun, data: ShapeData) -> float:
    """Let a head on all blocks begin as linear discriminant analysis, before it is trained.

    The temperature of its scores suits every fifth shape of each class, by the rule that the others
    give.

    Returns:
        How many seconds it took.
    """
    started, head = time.monotonic(), model.adapter.classifier.head
    assert isinstance(head, DiscriminantHead)
    model.to(training_device(resolved.config))
    with eval_mode(model):
        draws = [model_outputs(model, draw).features for draw in _draws(resolved, data, _DRAWS)]
    features = torch.from_numpy(np.stack(draws))  # (draws, S, F)
    labels = torch.from_numpy(data.train.labels).long()
    balanced = resolved.config.class_weights == "balanced"

    def fitted(rows: Tensor) -> Discriminant:
        chosen = features[:, rows].flatten(0, 1)
        return discriminant(chosen, labels[rows].repeat(_DRAWS), len(data.class_names), balanced)

    kept_out, temperature = _every_fifth(labels), _USUAL_TEMPERATURE
    if int(kept_out.sum()) >= _CALIBRATED_FROM:
        rule = fitted(~kept_out)
        scores = (features[0, kept_out] - rule.origin) @ rule.weight.T + rule.bias
        temperature = fit_temperature(scores.numpy(), labels[kept_out].numpy())
    head.begin(fitted(torch.ones_like(kept_out)), temperature)
    log.info("the head begins as linear discriminant analysis, temperature %.1f", temperature)
    return time.monotonic() - started


def _draws(resolved: ResolvedRun, data: ShapeData, count: int) -> list[Tensor]:
    """Samplings of each training shape, ``(S, N, 3)``; the first is of its farthest points.

    Where scans are to be learnt, each is a scan of the shape.
    """
    num_points = data.transform.num_points
    if resolved.config.data.augmentation == SCAN:
        stored, scan = torch.from_numpy(data.train.points), RandomScan(num_points)
        return [scan(stored) for _ in range(count)]
    pool = max(pool_size(num_points), num_points)
    clouds = torch.from_numpy(resolved.protocol.in_order(data.train, pool).points)
    subset = RandomSubset(num_points, pool)
    return [clouds[:, :num_points]] + [subset(clouds) for _ in range(1, count)]


def _every_fifth(labels: Tensor) -> Tensor:
    """Which shapes are number 5, 10, ... of their class, ``(S,)``."""
    places = torch.zeros_like(labels)
    for label in labels.unique():
        of_class = labels == label
        places[of_class] = torch.arange(1, int(of_class.sum()) + 1)
    return places % 5 == 0


def svm_beside(
    resolved: ResolvedRun, data: ShapeData, metrics: dict[str, Any], run: RunFolder
) -> dict[str, Any]:
    """What a linear SVM on the frozen features of the run has on the test shapes.

    It is told, as a warning where it beats what was trained: by accuracy, or by the mean of the
    classes where they are to count alike. There is none for other tasks than classification,
    without a test split, and for more than 20,000 training shapes.

    Args:
        resolved: the run.
        data: with clouds in farthest-point order.
        metrics: of the run.
        run: its folder.
    """
    config, train, test = resolved.config, data.train, data.test
    balanced = config.class_weights == "balanced"
    kind = "mean_class_accuracy" if balanced else "accuracy"
    measured = metrics.get(f"test_{kind}")
    if resolved.task.name != "classification" or resolved.method.fitted or measured is None:
        return {}
    if len(train) > _MOST_SHAPES or config.few_shot.way:
        return {}
    if run.backbone.is_file():  # random weights, which lie nowhere else
        config = replace(config, checkpoint=str(run.backbone))
    trunk = make_backbone(config)[0].to(training_device(config))
    features, seen = (
        extract_features(trunk, torch.from_numpy(part.points)[:, : data.transform.num_points])
        for part in (train, test)
    )
    drawn = draw_by_class(train.labels, max(_MOST_VALIDATED, 2 * len(data.class_names)))
    try:
        chosen, chosen_from = choose_strength(features[drawn], train.labels[drawn], balanced)
        result = linear_svm(features, train.labels, seen, test.labels, chosen, balanced)
    except DataError:
        return {}
    found = getattr(result, kind)
    better = found > measured
    made = f"; `--method svm peft.C={chosen:g}` makes an adapter of it in seconds"
    advice = made if better else ""
    if better and resolved.method.head == "mlp" and "lda" in resolved.method.heads:
        advice += ", and with peft.head=lda training begins with such a rule"
    log.log(
        logging.WARNING if better else logging.INFO,
        "a linear SVM on the frozen features classifies %s of the test shapes%s, %s here %s%s",
        percent(found), " of a class" if balanced else "",
        display_name(resolved.method.method), percent(measured), advice,
    )  # fmt: skip
    return {f"svm_test_{kind}": found, "svm_C": chosen, "svm_C_from": chosen_from}
