"""Confidence intervals of accuracies, and the classes that an accuracy says nothing of."""

import numpy as np
import pytest
from scipy.stats import binom

from pointpeft.measure.scores import accuracy_intervals, class_counts, wilson_interval


@pytest.mark.parametrize(
    ("right", "items", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
     (1, 29, 0.0061, 0.1718), (3, 3, 0.4385, 1.0)],
)  # fmt: skip
def test_published_values(right, items, low, high):
    """All but the last: Newcombe (1998), table I."""
    assert wilson_interval(right / items, items) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("items", range(1, 200))
def test_the_share_lies_in_its_own_interval(items):
    for right in (0, 1, items - 1, items):
        low, high = wilson_interval(right / items, items)
        assert 0 <= low <= right / items <= high <= 1


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_holds_the_true_share_about_95_times_of_100(share):
    items = 40
    held = 0.0
    for right in range(items + 1):
        low, high = wilson_interval(right / items, items)
        held += binom.pmf(right, items, share) * (low <= share <= high)
    assert 0.9 < held < 0.99


@pytest.mark.parametrize(("share", "items"), [(0.5, 0), (-0.1, 5), (1.1, 5), (float("nan"), 5)])
def test_what_is_no_share_of_items_is_refused(share, items):
    with pytest.raises(ValueError, match="share"):
        wilson_interval(share, items)


def test_accuracies_get_intervals_where_the_shapes_were_counted():
    metrics = {
        "test_accuracy": 1.0, "test_vote_accuracy": 0.5, "test_items": 4, "val_accuracy": 0.5,
        "all_accuracy": None, "all_items": 9, "train_accuracy": 0.2, "train_items": 0,
    }  # fmt: skip
    assert accuracy_intervals(metrics) == {
        "test_accuracy_interval": list(wilson_interval(1.0, 4)),
        "test_vote_accuracy_interval": list(wilson_interval(0.5, 4)),
    }


def test_classes_without_shapes_are_named():
    assert class_counts(("cup", "fork", "knife"), np.array([2, 2, 0])) == {
        "class_names": ["cup", "fork", "knife"],
        "class_items": [1, 0, 2],
        "unmeasured_classes": ["fork"],
    }
    assert class_counts(("cup",), np.array([], dtype=np.int64))["unmeasured_classes"] == ["cup"]
