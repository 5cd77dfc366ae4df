"""Votes: the mean of logits over random views of each cloud."""

import numpy as np
import torch
from torch import nn

from pointpeft.compat.voting import best_of_votes
from pointpeft.data import ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.measure.voting import vote, vote_seed

N, CLASSES = 16, 3


class Moments(nn.Module):
    """A classifier that neither order nor number of points matter to, but their places do."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, points):
        return self.head(torch.cat([points.mean(dim=1), points.std(dim=1)], dim=1).exp())


def model_and_clouds(seed=0):
    torch.manual_seed(seed)
    return Moments(), torch.randn(5, 2 * N, 3)


def test_a_vote_is_the_mean_of_the_logits_of_its_views():
    model, points = model_and_clouds()
    view, generator = recipe("scale-shift", N), torch.Generator().manual_seed(7)
    expected = torch.zeros(len(points), CLASSES)
    with torch.no_grad():
        for clouds in [view(points, generator) for _ in range(4)]:
            for place, cloud in enumerate(clouds):
                assert cloud.shape == (N, 3)
                expected[place] += model(cloud[None])[0] / 4
    found = vote(model, points, view, passes=4, seed=7)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, vote(model, points, view, passes=4, seed=8))


def test_the_best_vote_is_the_one_that_counts():
    model, points = model_and_clouds()
    labels = np.array([0, 1, 2, 0, 1])
    split = ShapeSplit(points.numpy(), labels, tuple("abcde"))
    found = best_of_votes(model, split, N, votes=5)
    assert len(found["vote_accuracies"]) == 5
    assert found["vote_accuracy"] == max(found["vote_accuracies"])


def test_neighbouring_seeds_have_no_vote_in_common():
    assert len({vote_seed(seed, place) for seed in range(5) for place in range(5)}) == 25
