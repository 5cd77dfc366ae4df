"""Linear SVM on frozen features, the field's measure of a pre-trained encoder."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

from pointpeft.errors import DataError

__all__ = ["C_GRID", "SvmResult", "linear_svm"]

C_GRID = tuple(float(C) for C in np.logspace(-3, 3, 13))
"""What cross-validation chooses C from: 0.001, 0.00316, ..., 1000."""
_FOLDS = 5
_MAX_ITERATIONS = 100_000  # per pair of classes; ordinary pairs take a few thousand


@dataclass(frozen=True)
class SvmResult:
    """Outcome of a linear SVM.

    Attributes:
        accuracy: share of test items classified correctly, 0 to 1.
        C: inverse regularisation strength that was used.
        tuned: whether ``C`` was chosen by cross-validation on the training items.
        predictions: ``(S,)`` labels predicted for the test items.
        decision: decision values of the test items, as scikit-learn shapes them.
    """

    accuracy: float
    C: float
    tuned: bool
    predictions: NDArray[np.int64]
    decision: NDArray[np.float64]


def linear_svm(
    train_features: NDArray,
    train_labels: NDArray,
    test_features: NDArray,
    test_labels: NDArray,
    C: float | None = None,
) -> SvmResult:
    """Fit ``sklearn.svm.SVC(kernel="linear")`` and score it.

    All else is default but the iterations, which end at 100,000 per pair of classes: the default
    has no end where features cannot be separated.

    Args:
        train_features: ``(S, C)``; not scaled, as in the papers.
        train_labels: ``(S,)`` integers.
        test_features: ``(T, C)``.
        test_labels: ``(T,)`` integers.
        C: inverse regularisation strength; None chooses from :data:`C_GRID` by stratified 5-fold
            cross-validation on the training items alone (the smallest of the best).

    Raises:
        DataError: fewer than two classes, too few items of a class to cross-validate, or features
            that are not finite.
    """
    if not (np.isfinite(train_features).all() and np.isfinite(test_features).all()):
        raise DataError("features are NaN or infinite: the weights of the encoder are damaged")
    counts = np.unique(train_labels, return_counts=True)[1]
    if len(counts) < 2:
        raise DataError(
            f"a linear SVM needs two classes or more, the training set has {len(counts)}"
        )
    # The machine is the same wherever the origin lies, but libsvm keeps products of features in
    # single precision: far from the origin they are too coarse for it to converge.
    origin = train_features.mean(axis=0, dtype=np.float64)
    train_features, test_features = train_features - origin, test_features - origin
    tuned = C is None
    if C is None:
        C = _cross_validate(train_features, train_labels, smallest_class=int(counts.min()))
    model = _machine(C).fit(train_features, train_labels)
    predictions = model.predict(test_features)
    accuracy = float(np.mean(predictions == test_labels))
    return SvmResult(accuracy, C, tuned, predictions, model.decision_function(test_features))


def _cross_validate(features: NDArray, labels: NDArray, smallest_class: int) -> float:
    folds = min(_FOLDS, smallest_class)
    if folds < 2:
        raise DataError(
            "C cannot be cross-validated: a class has a single training item; pass C (in the "
            "papers 0.01 to 0.042)"
        )
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = [cross_val_score(_machine(C), features, labels, cv=splits).mean() for C in C_GRID]
    return C_GRID[int(np.argmax(scores))]


def _machine(C: float) -> SVC:
    return SVC(C=C, kernel="linear", max_iter=_MAX_ITERATIONS)
