"""The paired test finds what differs, and nothing where there is nothing."""

import itertools

import numpy as np
import pytest

from pointpeft.measure.paired import holm, paired_p_value, paired_p_values


def by_enumeration(first, second):
    """The exact p-value: all ways to put signs."""
    difference = np.subtract(first, second)
    sums = [abs(np.dot(s, difference)) for s in itertools.product((-1, 1), repeat=len(difference))]
    return np.mean(np.array(sums) >= abs(difference.sum()) - 1e-9)


def test_equal_methods_do_not_differ():
    values = np.random.default_rng(0).random(50)
    assert paired_p_value(values, values) == 1.0


def test_it_is_near_the_exact_value():
    generator = np.random.default_rng(1)
    for _ in range(5):
        first, second = generator.integers(0, 4, (2, 12)) / 3
        exact = by_enumeration(first, second)
        assert paired_p_value(first, second) == pytest.approx(exact, abs=0.02)


def test_shares_of_three_seeds_tie_as_counts_do():
    """Results keep six digits of them: 0.333333 twice is not 0.666667."""
    generator = np.random.default_rng(3)
    for _ in range(20):
        counts = generator.integers(0, 4, (2, 60))
        kept = (counts / 3).round(6)
        assert paired_p_value(*kept) == paired_p_value(*counts)


def test_all_pairs_have_the_values_of_two():
    scores = np.random.default_rng(5).integers(0, 4, (3, 30)) / 3
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [paired_p_value(scores[i], scores[j]) for i, j in pairs]
    assert paired_p_values(scores).tolist() == expected


def test_a_clear_difference_has_the_smallest_value_there_is():
    assert paired_p_value(np.ones(40), np.zeros(40), draws=999) == 1 / 1000


def test_the_order_of_the_two_does_not_matter_and_the_seed_repeats():
    first, second = np.random.default_rng(2).random((2, 30))
    assert paired_p_value(first, second, seed=3) == paired_p_value(second, first, seed=3)


def test_it_is_wrong_as_often_as_it_says():
    generator = np.random.default_rng(4)
    pairs = generator.integers(0, 2, (300, 2, 60))
    found = [paired_p_value(a, b, draws=400) for a, b in pairs]
    assert np.mean(np.array(found) < 0.05) < 0.09


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="same"):
        paired_p_value([1, 0], [1, 0, 1])


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
