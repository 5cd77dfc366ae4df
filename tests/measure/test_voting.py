"""Votes: the mean of logits over random views of each cloud."""

import numpy as np
import torch
from torch import nn

from pointpeft.compat.voting import best_vote
from pointpeft.data.transforms import recipe
from pointpeft.measure.voting import vote

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


def test_the_best_vote_is_the_one_it_says():
    model, points = model_and_clouds()
    labels = np.array([0, 1, 2, 0, 1])
    view = recipe("scale-shift", N)
    logits, accuracies = best_vote(model, points, labels, view, repetitions=5)
    assert len(accuracies) == 5
    assert float((logits.argmax(1).numpy() == labels).mean()) == max(accuracies)


def test_neighbouring_seeds_have_no_vote_in_common():
    model, points = model_and_clouds()
    cast = []
    for seed in (0, 1):
        for repetitions in (1, 2):  # wrong labels make every vote the best one, the last remains
            labels = np.full(len(points), -1)
            logits, _ = best_vote(model, points, labels, recipe(None, N), repetitions, seed)
            cast.append(logits)
    assert all(not torch.equal(cast[i], cast[j]) for i in range(4) for j in range(i))
