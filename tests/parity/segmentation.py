"""Parity of the part-segmentation metrics."""

import numpy as np
import pytest

from pointpeft.measure.part_scores import score_parts
from tests.parity.support import Case


def check_metrics(case: Case) -> None:
    scalars, categories = case.data["scalars"], case.data["config"]["seg_classes"].pop_all()
    scores, targets = case.arrays["log_probs"], case.arrays["target"].astype(np.int64)
    case.stored("log_probs", "target", "batches")
    assert case.data["seed"] is not None
    result = score_parts(list(scores), list(targets), categories)
    assert result.accuracy == pytest.approx(scalars["accuracy"])
    if scalars["class_avg_accuracy"] is not None:  # published: NaN where a part never occurs
        assert result.mean_class_accuracy == pytest.approx(scalars["class_avg_accuracy"])
    if scalars["class_avg_iou"] is not None:
        assert result.class_iou == pytest.approx(scalars["class_avg_iou"])
    assert result.instance_iou == pytest.approx(scalars["inctance_avg_iou"])
    assert result.category_iou == pytest.approx(case.data["per_category_iou"].pop_all())
