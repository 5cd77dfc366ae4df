"""Few shapes of each class: how many, which ones, and the same ones for all."""

import numpy as np
import pytest

from pointpeft.data import ShapeSplit
from pointpeft.data.shots import take_shots
from pointpeft.errors import DataError

LABELS = np.array([0, 1, 0, 1, 2, 2, 0, 1, 2, 0, 1, -1])


@pytest.fixture
def train():
    points = np.zeros((len(LABELS), 4, 3), np.float32)
    return ShapeSplit(points, LABELS, tuple(f"shape{i}" for i in range(len(LABELS))))


def test_every_class_has_as_many(train):
    for shots in (1, 2, 3):
        taken = take_shots(train, shots, seed=5)
        assert np.bincount(taken.labels).tolist() == [shots] * 3
        assert list(taken.ids) == sorted(taken.ids, key=train.ids.index)


def test_fewer_shots_are_among_more(train):
    for seed in range(5):
        few, more = (set(take_shots(train, n, seed).ids) for n in (1, 3))
        assert few < more


def test_the_seed_alone_decides(train):
    taken = [take_shots(train, 2, seed).ids for seed in range(8)]
    assert taken == [take_shots(train, 2, seed).ids for seed in range(8)]
    assert len(set(taken)) > 1


@pytest.mark.parametrize("shots", [0, -1, 4])
def test_what_cannot_be_had_is_refused(train, shots):
    with pytest.raises(DataError, match="shots"):
        take_shots(train, shots)


def test_the_class_that_is_too_small_is_named(train):
    with pytest.raises(DataError, match="lamp"):
        take_shots(train, 4, class_names=("chair", "table", "lamp"))
