"""Temperatures and the calibration error."""

import numpy as np
import pytest
from scipy.special import softmax

from pointpeft.measure.calibration import calibration_error, fit_temperature


def drawn(scale, shapes=4000, classes=5):
    """Logits that are ``scale`` times too sure of labels drawn from them."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(shapes, classes))
    probabilities = softmax(logits, axis=1)
    labels = np.array([rng.choice(classes, p=row) for row in probabilities])
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
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
