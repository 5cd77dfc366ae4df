import numpy as np
import pytest

from pointpeft.errors import DataError
from pointpeft.evaluation.segmentation import restrict_to_category, score_parts

CATEGORIES = {"cup": [0, 1], "lamp": [2, 3, 4], "rug": [5]}


def certain(parts, num_parts=6):
    """Scores that name these parts, and of the other parts the last one above all."""
    scores = np.zeros((len(parts), num_parts))
    scores[:, -1] = 9.0
    scores[np.arange(len(parts)), parts] = 5.0
    return scores


def test_only_parts_of_the_category_are_predicted():
    assert restrict_to_category(certain([0, 1, 1]), [0, 1]).tolist() == [0, 1, 1]


def test_scores_by_hand():
    truth = [np.array([0, 0, 1, 1]), np.array([2, 2, 2, 3])]
    found = [certain([0, 1, 1, 1]), certain([2, 2, 3, 3])]
    result = score_parts(found, truth, CATEGORIES)
    cup = np.mean([1 / 2, 2 / 3])
    lamp = np.mean([2 / 3, 1 / 2, 1.0])  # part 4 neither occurs nor is predicted
    assert result.category_iou == {
        "cup": pytest.approx(cup),
        "lamp": pytest.approx(lamp),
        "rug": None,
    }
    assert result.instance_iou == pytest.approx(np.mean([cup, lamp]))
    assert result.class_iou == pytest.approx(np.mean([cup, lamp]))
    assert result.accuracy == pytest.approx(6 / 8)
    assert result.mean_class_accuracy == pytest.approx(np.mean([1 / 2, 1.0, 2 / 3, 1.0]))


def test_instances_and_classes_weigh_differently():
    truth = [np.array([0, 1])] * 3 + [np.array([2, 3])]
    found = [certain([0, 1])] * 3 + [certain([3, 2])]
    result = score_parts(found, truth, CATEGORIES)
    assert result.instance_iou == pytest.approx((3 + 1 / 3) / 4)
    assert result.class_iou == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize(
    ("target", "named"),
    [([0, 7], "part 7"), ([0, 2], "several categories: cup, lamp")],
)
def test_impossible_labels_are_named(target, named):
    with pytest.raises(DataError, match=named):
        score_parts([certain([0, 1])], [np.array(target)], CATEGORIES)


def test_nothing_to_score():
    with pytest.raises(DataError, match="no shape"):
        score_parts([], [], CATEGORIES)
