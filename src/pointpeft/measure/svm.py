"""Linear SVM on frozen features, the field's measure of a pre-trained encoder."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointpeft.errors import DataError
from pointpeft.measure.scores import score
from pointpeft.peft.linear_svm import C_GRID, CROSS_VALIDATED, fit_svm

__all__ = ["C_GRID", "SvmResult", "linear_svm"]


@dataclass(frozen=True)
class SvmResult:
    """Outcome of a linear SVM.

    Attributes:
        accuracy: share of test items classified correctly, 0 to 1.
        mean_class_accuracy: mean over the classes of that share.
        C: inverse regularisation strength that was used.
        C_from: where it is from, in words.
        predictions: ``(S,)`` labels predicted for the test items.
        decision: decision values of the test items, as scikit-learn shapes them.
    """

    accuracy: float
    mean_class_accuracy: float
    C: float
    C_from: str
    predictions: NDArray[np.int64]
    decision: NDArray[np.float64]

    @property
    def tuned(self) -> bool:
        """Whether ``C`` was chosen by cross-validation on the training items."""
        return self.C_from == CROSS_VALIDATED


def linear_svm(
    train_features: NDArray,
    train_labels: NDArray,
    test_features: NDArray,
    test_labels: NDArray,
    C: float | None = None,
    balanced: bool = False,
) -> SvmResult:
    """Fit a machine by :func:`pointpeft.peft.linear_svm.fit_svm`, and score it.

    Args:
        train_features: ``(S, C)``; not scaled, as in the papers.
        train_labels: ``(S,)`` integers.
        test_features: ``(T, C)``.
        test_labels: ``(T,)`` integers.
        C: inverse regularisation strength; None: chosen on the training items alone.
        balanced: mistakes of all classes weigh alike.

    Raises:
        DataError: fewer than two classes, or features that are not finite.
    """
    if not np.isfinite(test_features).all():
        raise DataError("features are NaN or infinite: the weights of the encoder are damaged")
    fitted = fit_svm(train_features, train_labels, C, balanced)
    centred = test_features - fitted.origin
    predictions = fitted.machine.predict(centred)
    found = score(predictions, test_labels, int(max(predictions.max(), test_labels.max())) + 1)
    decision = fitted.machine.decision_function(centred)
    return SvmResult(
        found.accuracy, found.mean_class_accuracy, fitted.C, fitted.C_from, predictions, decision
    )
