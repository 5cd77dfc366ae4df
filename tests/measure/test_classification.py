"""Scores, and running a classifier over many clouds."""

import numpy as np
import pytest
import torch
from torch import nn

from pointpeft.measure import classify, extract_features, score


class Octants(nn.Module):
    """Logits are the mean coordinates; notes the batches that it sees and its mode."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.batches = []

    def forward(self, points, reference_compat=False):
        self.batches.append((len(points), self.training))
        return points.mean(1) * self.scale

    retrieval_features = forward


def test_scores_equal_counting():
    scores = score(np.array([0, 1, 1, 2, 0]), np.array([0, 1, 0, 2, 2]), num_classes=4)
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(scores.class_accuracy, [0.5, 1.0, 0.5, np.nan])
    assert scores.mean_class_accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize("run", [classify, extract_features])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_items_are_run_in_order_in_eval_mode_whatever_the_batch(run, batch_size):
    model, points = Octants().train(), torch.randn(7, 10, 3)
    output = torch.as_tensor(run(model, points, batch_size=batch_size))
    torch.testing.assert_close(output, points.mean(1))
    assert not output.requires_grad
    assert sum(size for size, _ in model.batches) == 7
    assert max(size for size, _ in model.batches) == min(7, batch_size)
    assert not any(training for _, training in model.batches)


def test_logits_are_float32_whatever_the_model_computes():
    model = Octants().half()
    assert classify(model, torch.randn(2, 5, 3).half()).dtype == torch.float32


def test_no_items_have_accuracy_zero_and_no_class_accuracy():
    scores = score(np.array([], dtype=int), np.array([], dtype=int), num_classes=2)
    assert scores.accuracy == 0.0
    assert np.isnan(scores.class_accuracy).all()
