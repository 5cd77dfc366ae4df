"""The linear SVM on frozen features."""

import numpy as np
import pytest
from sklearn.svm import SVC

from pointpeft.errors import DataError
from pointpeft.measure import linear_svm
from pointpeft.measure.svm import C_GRID
from pointpeft.peft.linear_svm import DEFAULT_C


def blobs(items_per_class=8, classes=3, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), items_per_class)
    return 3 * np.eye(classes, 5)[labels] + spread * rng.normal(size=(len(labels), 5)), labels


def test_separable_blobs_are_separated():
    result = linear_svm(*blobs(seed=0), *blobs(seed=1))
    assert result.accuracy == 1.0
    assert result.tuned
    assert result.C in C_GRID
    assert result.predictions.tolist() == blobs()[1].tolist()
    assert result.decision.shape == (24, 3)


def test_it_is_the_plain_svm_of_scikit_learn():
    train, test = blobs(spread=2.0), blobs(spread=2.0, seed=1)
    result = linear_svm(*train, *test, C=0.01)
    model = SVC(C=0.01, kernel="linear").fit(*train)
    assert result.accuracy == model.score(*test)
    assert not result.tuned
    assert result.C == 0.01
    np.testing.assert_allclose(result.decision, model.decision_function(test[0]), rtol=1e-5)


def test_cross_validation_is_deterministic_and_blind_to_the_test_items():
    train, test = blobs(spread=2.0), blobs(spread=2.0, seed=1)
    first, second = linear_svm(*train, *test), linear_svm(*train, *test)
    assert first.C == second.C
    np.testing.assert_array_equal(first.predictions, second.predictions)
    assert linear_svm(*train, *blobs(seed=7)).C == first.C


def test_the_smallest_of_equally_good_values_is_chosen():
    result = linear_svm(*blobs(items_per_class=20, spread=0.01), *blobs())
    assert C_GRID[0] == result.C


def test_a_machine_that_does_not_converge_is_told_once(caplog, recwarn):
    # Far more alike than different, with random labels, and mistakes that cost everything.
    rng = np.random.default_rng(0)
    train = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    linear_svm(*train, *train, C=1e5)
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "C=100000" in told[0].getMessage()
    assert not recwarn.list


def test_features_that_hardly_differ_are_told_apart_as_well():
    """What is a thousand times smaller needs a C that is a million times larger."""
    rng, sets = np.random.default_rng(0), []
    for _ in range(2):
        labels = np.repeat([0, 1], 60)
        told = 0.3 * (2 * labels - 1) + 0.02 * rng.normal(
            size=120
        )  # beside much that tells nothing
        sets.append((np.column_stack([rng.normal(size=(120, 4)), told]), labels))
    train, test = sets
    assert linear_svm(*train, *test).accuracy == 1.0
    small = linear_svm(1e-4 * train[0], train[1], 1e-4 * test[0], test[1])
    assert C_GRID[-1] < small.C
    assert small.accuracy == 1.0


def test_two_classes_are_enough_and_one_is_not():
    assert linear_svm(*blobs(classes=2), *blobs(classes=2)).accuracy == 1.0
    with pytest.raises(DataError, match=r"classes.*1"):
        linear_svm(*blobs(classes=1), *blobs(classes=1), C=1.0)


def test_few_items_are_cross_validated_in_fewer_folds_and_single_ones_not(caplog):
    assert linear_svm(*blobs(items_per_class=2), *blobs()).accuracy == 1.0
    features, labels = blobs(items_per_class=2)
    caplog.set_level("INFO", "pointpeft")
    single = linear_svm(features[:-1], labels[:-1], *blobs())
    assert (single.C, single.tuned) == (DEFAULT_C, False)
    assert "default" in single.C_from
    assert caplog.records
    assert linear_svm(*blobs(items_per_class=1), *blobs(), C=1.0).accuracy == 1.0


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(place, value):
    given = [*blobs(), *blobs(seed=1)]
    given[place][3, 1] = value
    with pytest.raises(DataError, match="NaN"):
        linear_svm(*given, C=1.0)
