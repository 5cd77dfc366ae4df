"""Exact search and near-duplicates against what a plain matrix of all similarities says."""

import numpy as np
import pytest

from pointpeft.measure import nearest as module
from pointpeft.measure.nearest import near_duplicates, nearest


@pytest.fixture
def features():
    rows = np.random.default_rng(0).normal(size=(50, 6)) + 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(params=[7, 1000], ids=["blocks", "at once"])
def size(request, monkeypatch):
    """Of blocks that are compared at a time; the result is the same."""
    for name in ("_ROWS", "_QUERIES", "_TILE"):
        monkeypatch.setattr(module, name, request.param)


def cosines(first, second):
    first, second = (
        rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        for rows in (first, second)
    )
    return first @ second.T


@pytest.mark.parametrize("top", [1, 5, 50])
def test_the_nearest_are_those_of_all_pairs(features, size, top):
    queries = 3 * np.random.default_rng(1).normal(size=(9, 6))
    expected = cosines(queries, features)
    found = nearest(queries, features, top)
    assert found.places.shape == found.similarities.shape == (9, top)
    assert np.array_equal(found.places, np.argsort(-expected, axis=1)[:, :top])
    sorted_expected = -np.sort(-expected, axis=1)[:, :top]
    np.testing.assert_allclose(found.similarities, sorted_expected, atol=1e-6)


def test_no_more_are_found_than_there_are(features, size):
    assert nearest(features, features[:4], 10).places.shape == (50, 4)


def test_a_row_is_nearest_to_itself(features, size):
    found = nearest(features, features, 2)
    assert np.array_equal(found.places[:, 0], np.arange(50))
    np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-6)
    assert (found.similarities <= 1).all()


def test_of_equal_ones_the_first_comes_first(features, size):
    twice = np.concatenate([features, features])
    assert nearest(features[:3], twice, 2).places.tolist() == [[0, 50], [1, 51], [2, 52]]


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_duplicates_are_what_hangs_together(features, size, threshold):
    alike = cosines(features, features) >= threshold
    reached = np.linalg.matrix_power(alike.astype(float), 50) > 0
    expected = {tuple(np.flatnonzero(row)) for row in reached if row.sum() > 1}
    found = near_duplicates(features, threshold)
    assert {tuple(group.tolist()) for group in found} == expected
    sizes = [len(group) for group in found]
    assert sizes == sorted(sizes, reverse=True)


def test_equal_rows_are_duplicates_at_the_highest_threshold(features, size):
    twice = np.concatenate([features, features[[40, 3]], features[[3]]])
    found = [group.tolist() for group in near_duplicates(twice, 1.0)]
    assert found == [[3, 51, 52], [40, 50]]


def test_progress_ends_at_the_number_of_rows(features, size):
    seen = []
    near_duplicates(features, 0.9, lambda *step: seen.append(step))
    assert seen[-1] == (50, 50)
