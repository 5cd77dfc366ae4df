import numpy as np
import pytest
import torch

from pointpeft.data import PartTable, ShapeSplit
from pointpeft.errors import DataError
from pointpeft.measure.part_scores import (
    likeliest_parts,
    part_mask,
    score_labels,
    score_parts,
    score_segmenter,
    segment,
)

CATEGORIES = {"cup": [0, 1], "lamp": [2, 3, 4], "rug": [5]}


def certain(parts, num_parts=6):
    """Scores that name these parts, and of the other parts the last one above all."""
    scores = np.zeros((len(parts), num_parts))
    scores[:, -1] = 9.0
    scores[np.arange(len(parts)), parts] = 5.0
    return scores


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
    [([0, 7], "part 7"), ([0, 2], "cup, lamp")],
)
def test_impossible_labels_are_named(target, named):
    with pytest.raises(DataError, match=named):
        score_parts([certain([0, 1])], [np.array(target)], CATEGORIES)


def test_nothing_to_score():
    with pytest.raises(DataError, match="no shape"):
        score_parts([], [], CATEGORIES)


# Networks and categories that share parts --------------------------------------------------------

TABLE = PartTable(("base", "top", "side"), {"cup": (0, 2), "lamp": (0, 1)})


class Heights(torch.nn.Module):
    """Logits of three parts: the last one above all, then by height."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, points, category):
        height = points[..., 1] * self.weight
        side = torch.where(category == 1, 9.0, 0.0).unsqueeze(1).expand_as(height)
        return torch.stack([-height, height, side], dim=-1)


def clouds(count=5, points=8):
    generator = np.random.default_rng(0)
    cloud = generator.normal(size=(count, points, 3)).astype(np.float32)
    label = np.arange(count) % 2
    upper = cloud[..., 1] > 0
    seg = np.where(upper, np.where(label == 0, 2, 1)[:, None], 0)
    return ShapeSplit(cloud, label, tuple(map(str, range(count))), seg)


def test_likeliest_parts_are_those_of_the_category():
    split = clouds()
    points, category = torch.from_numpy(split.points), torch.from_numpy(split.labels)
    found = likeliest_parts(Heights()(points, category), category, part_mask(TABLE))
    for row, one in zip(found, category.tolist(), strict=True):
        assert set(row.tolist()) <= set(list(TABLE.categories.values())[one])
    assert np.array_equal(found, split.seg)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_split_is_scored_batch_by_batch(batch_size):
    split = clouds()
    points, category = torch.from_numpy(split.points), torch.from_numpy(split.labels)
    found = segment(Heights(), points, category, part_mask(TABLE), batch_size)
    assert np.array_equal(found, split.seg)
    scores = score_segmenter(Heights(), split, TABLE, num_points=8)
    assert (scores.accuracy, scores.instance_iou, scores.class_iou) == (1, 1, 1)


def test_only_the_points_that_the_model_sees_are_scored():
    split = clouds()
    split.seg[:, 6:] = 0
    assert score_segmenter(Heights(), split, TABLE, num_points=6).accuracy == 1
    assert score_segmenter(Heights(), split, TABLE, num_points=8).accuracy < 1


def test_an_empty_split_has_no_scores():
    assert score_segmenter(Heights(), clouds().subset([]), TABLE, num_points=8) is None


def test_shared_parts_are_scored_within_the_named_category():
    target, found = np.array([0, 0, 2]), np.array([0, 2, 2])
    scores = score_labels([found, target], [target, target], ["cup", "cup"], TABLE.categories)
    assert scores.category_iou == {"cup": pytest.approx((0.5 + 1) / 2), "lamp": None}
    assert scores.accuracy == pytest.approx(5 / 6)
