"""Probabilities that mean what they say: how far they are from it, and one number that mends them.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

__all__ = ["calibration_error", "fit_temperature"]

_RANGE = (-4.0, 8.0)  # of the logarithm of a temperature; rules on few shapes are far too sure


def fit_temperature(logits: NDArray, labels: NDArray) -> float:
    """The temperature T for which ``softmax(logits / T)`` has the least negative log-likelihood.

    Args:
        logits: ``(S, classes)`` of shapes that the model was not trained on.
        labels: ``(S,)``, of the true classes.

    Returns:
        A positive number; above 1 where the model is too sure.
    """
    rows, logits = np.arange(len(labels)), np.asarray(logits, np.float64)

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))


def calibration_error(
    logits: NDArray, labels: NDArray, temperature: float = 1.0, bins: int = 15
) -> float:
    """Expected calibration error: how far confidence is from accuracy, 0 to 1.

    Shapes are sorted into bins of equal width by the probability of their likeliest class; the
    error is the mean over shapes of the distance between accuracy and mean probability of a bin.

    Args:
        logits: ``(S, classes)``.
        labels: ``(S,)``.
        temperature: that logits are divided by.
        bins: how many.
    """
    probabilities = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(places, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / max(1, len(labels)))
