"""Temperatures and the calibration error."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from pointpeft.measure.calibration import calibration_error, fit_temperature
from pointpeft.measure.rotations import rotated_accuracies
from pointpeft.measure.scores import score
from pointpeft.tasks.classification import Classification


def drawn(scale, shapes=4000, classes=5):
    """Logits that are ``scale`` times too sure of labels drawn from them."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(shapes, classes))
    probabilities = softmax(logits, axis=1)
    labels = np.array([rng.choice(classes, p=row) for row in probabilities])
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 200.0])
def test_the_temperature_is_how_much_too_sure_a_model_is(scale):
    logits, labels = drawn(scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.1)
    assert calibration_error(logits, labels, temperature) < 0.03
    if scale != 1.0:
        assert calibration_error(logits, labels) > 0.1


def test_the_error_is_that_of_its_definition():
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    labels = np.array([0, 1, 0, 1])
    # Two shapes of 0.9 with one of them right, one of 0.6 and one of 0.8, both right.
    expected = (2 * abs(0.9 - 0.5) + abs(0.6 - 1) + abs(0.8 - 1)) / 4
    assert calibration_error(logits, labels) == pytest.approx(expected)


def test_a_perfect_model_has_a_bounded_temperature():
    logits = np.eye(3)[[0, 1, 2]] * 10
    assert 0 < fit_temperature(logits, np.array([0, 1, 2])) < 1


def test_rotations_are_about_the_axis_or_in_space_and_known_by_the_seed():
    class Upright(torch.nn.Module):
        """Right while the highest point stays the highest: class 0, else class 1."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, points):
            seen.append(points)
            up = (points[:, 0, 1] > 0.99).float()
            return torch.stack([up, 1 - up], dim=1)

    seen = []
    points = torch.tensor([[[0.0, 1, 0], [1, 0, 0]]]).repeat(40, 1, 1)
    labels = np.zeros(40, np.int64)
    found = rotated_accuracies(Upright(), points, labels, 16)
    assert found["rotated_up_accuracies"] == [1.0, 1.0, 1.0]
    assert max(found["rotated_space_accuracies"]) < 0.5
    assert found["rotated_items"] == 40
    assert rotated_accuracies(Upright(), points, labels, 16) == found
    turned = torch.cat(seen)
    torch.testing.assert_close(turned.norm(dim=-1), torch.ones(len(turned), 2))


def test_of_many_shapes_some_are_rotated():
    class First(torch.nn.Linear):
        def forward(self, points):
            return points.new_zeros(len(points), 2)

    points = torch.zeros(700, 4, 3)
    labels = np.arange(700) % 2
    assert rotated_accuracies(First(1, 1), points, labels, 64)["rotated_items"] == 500


def test_scores_of_classes():
    scores = score(np.array([0, 0, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 2, 2]), 4)
    precision, recall = np.array([2 / 3, 1 / 3, 0]), np.array([2 / 3, 1, 0])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    assert scores.macro_f1 == pytest.approx(f1.mean())
    assert scores.confused(2) == [(0, 1, 1), (2, 0, 1)]
    assert (2, 1, 1) in scores.confused()


@pytest.mark.parametrize(("temperature", "named"), [(1.0, False), (1.7, True)])
def test_a_temperature_is_named_where_one_was_fitted(temperature, named):
    metrics = {
        "test_accuracy": 0.5, "test_items": 2, "class_names": ["a", "b"], "class_items": [1, 1],
        "class_accuracy": [1.0, 0.0], "calibration_error_before": 0.4, "calibration_error": 0.3,
        "temperature": temperature, "rotated_items": 2, "rotated_up_accuracies": [0.5],
        "rotated_space_accuracies": [0.5], "confused": [], "test_mean_class_accuracy": 0.5,
        "test_macro_f1": 0.5,
    }  # fmt: skip
    told = "\n".join(Classification().scores(metrics, "test", True).lines)
    assert (f"{temperature:.2f}" in told) == named
