"""A linear SVM on frozen features, as a method: fitted in seconds, and then an adapter like any."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointpeft.errors import ConfigError, DataError, check_numbers
from pointpeft.models.heads import Classifier
from pointpeft.ops._checks import values_are_known
from pointpeft.peft.method import FittedConfig, FittedTuner

if TYPE_CHECKING:
    from sklearn.svm import SVC

__all__ = [
    "CROSS_VALIDATED",
    "C_GRID",
    "DEFAULT_C",
    "FittedSvm",
    "SVMConfig",
    "SVMTuner",
    "choose_strength",
    "fit_svm",
    "forced_strength",
]

log = logging.getLogger("pointpeft")

C_GRID = tuple(float(C) for C in np.logspace(-3, 3, 13))
"""What cross-validation chooses C from: 0.001, 0.00316, ..., 1000; and
larger ones where features are small, or larger is better."""
_LARGEST_C = 1e9
DEFAULT_C = 1.0
"""Where a class has a single shape. With few shapes from 1 on no C makes a difference."""
CROSS_VALIDATED = "cross-validation on train"
_GIVEN, _DEFAULT = "given", "default, since a class has a single training shape"
_FOLDS = 5
_MAX_ITERATIONS = 100_000  # per pair of classes; ordinary pairs take a few thousand


@dataclass(frozen=True)
class SVMConfig(FittedConfig):
    """A linear support vector machine; nothing is trained by epochs."""

    method = "svm"

    # inverse regularisation strength; None: cross-validated on train, 1 where a class has one shape
    C: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.C is not None:
            check_numbers(self, ["C"])
            if self.C <= 0:
                raise ConfigError(f"C must be positive, got {self.C!r}")


class SVMTuner(FittedTuner):
    """One machine for every pair of classes.

    The logits are those of ``SVC.decision_function`` of scikit-learn. Where classes have equally
    many votes, the first one leads, as in its ``predict``.
    """

    config: SVMConfig
    first: Tensor
    second: Tensor
    origin: Tensor
    present: Tensor

    def __init__(self, model: Classifier, config: SVMConfig) -> None:
        super().__init__(model, config)
        K, C = model.num_classes, model.backbone.num_features
        first, second = torch.triu_indices(K, K, offset=1)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.pairs = nn.Linear(C, len(first))
        self.register_buffer("origin", torch.zeros(C))
        self.register_buffer("present", torch.zeros(K, dtype=torch.bool))

    def fit(
        self, features: Tensor, labels: Tensor, ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Fit the machines to features ``(S, C)`` and labels ``(S,)``; returns ``C``."""
        given = features.double().numpy(), labels.numpy()
        fitted = fit_svm(*given, self.config.C, self.config.balanced)
        place = {tuple(pair): n for n, pair in enumerate(zip(*self._pairs(), strict=True))}
        rows = [place[a, b] for i, a in enumerate(fitted.classes) for b in fitted.classes[i + 1 :]]
        with torch.no_grad():
            self.pairs.weight.zero_()
            self.pairs.bias.zero_()
            self.pairs.weight[rows] = torch.from_numpy(fitted.weights).to(self.pairs.weight)
            self.pairs.bias[rows] = torch.from_numpy(fitted.biases).to(self.pairs.bias)
            self.origin.copy_(torch.from_numpy(fitted.origin))
            self.present.zero_()[list(fitted.classes)] = True
        return {"C": fitted.C, "C_from": fitted.C_from}

    def classify(self, features: Tensor) -> Tensor:
        """Votes of the pairs, with their margins between votes, ``(B, C) -> (B, classes)``."""
        if values_are_known(self.present) and not bool(self.present.any()):
            raise ConfigError("svm is not fitted yet: call fit")
        first, second = self.first, self.second
        seen = (self.present[first] & self.present[second]).to(features.dtype)
        margins = self.pairs(features - self.origin) * seen
        shape = (features.shape[0], len(self.present))
        votes, sums = margins.new_zeros(shape), margins.new_zeros(shape)
        won = (margins > 0).to(margins.dtype)
        votes.index_add_(1, first, won * seen).index_add_(1, second, (1 - won) * seen)
        sums.index_add_(1, first, margins).index_add_(1, second, -margins)
        found = votes + sums / (3 * (sums.abs() + 1))
        found = found.masked_fill(~self.present, -1.0)  # below what any class can get
        return found + _LEAD * _first_of_tied(votes).to(found.dtype)

    def _pairs(self) -> tuple[list[int], list[int]]:
        return self.first.tolist(), self.second.tolist()


_LEAD = 2 / 3
"""Of a class over others with as many votes, whose margins count for less than a third each."""


def _first_of_tied(votes: Tensor) -> Tensor:
    """The class that ``SVC.predict`` takes where several have most votes, ``(B, classes)``."""
    most = votes == votes.amax(dim=1, keepdim=True)
    return most & (most.cumsum(dim=1) == 1) & (most.sum(dim=1, keepdim=True) > 1)


@dataclass(frozen=True)
class FittedSvm:
    """Linear machines of all pairs of classes, in their order: (0, 1), (0, 2), ..., (1, 2), ...

    Attributes:
        classes: labels that occur, ascending.
        weights: ``(pairs, C)``; a positive margin is a vote for the first class of a pair.
        biases: ``(pairs,)``.
        origin: ``(C,)``, subtracted from features.
        C: inverse regularisation strength that was used.
        C_from: where that is from: given, :data:`CROSS_VALIDATED`, or the default.
        machine: the ``sklearn.svm.SVC``.
    """

    classes: tuple[int, ...]
    weights: NDArray
    biases: NDArray
    origin: NDArray
    C: float
    C_from: str
    machine: Any


def fit_svm(
    features: NDArray, labels: NDArray, C: float | None = None, balanced: bool = False
) -> FittedSvm:
    """Fit ``sklearn.svm.SVC(kernel="linear")``.

    All else is default but the iterations, which end at 100,000 per pair of classes: the default
    has no end where features cannot be separated.

    Args:
        features: ``(S, C)``; not scaled, as in the papers.
        labels: ``(S,)`` integers.
        C: inverse regularisation strength; None chooses from :data:`C_GRID`, and from larger ones
            where features are small or larger is better, by stratified 5-fold cross-validation
            (the smallest of the best), and takes :data:`DEFAULT_C` where a class has a single item.
        balanced: mistakes of all classes weigh alike, in the choice of C too.

    Raises:
        DataError: fewer than two classes, or features that are not finite.
    """
    if not np.isfinite(features).all():
        raise DataError("features are NaN or infinite: the weights of the encoder are damaged")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(
            f"a linear SVM needs two classes or more, the training set has {len(classes)}"
        )
    C_from = _GIVEN
    if C is None:
        C, C_from = choose_strength(features, labels, balanced)
    centred, origin = _centred(features)
    with _quiet():
        machine = _machine(C, balanced).fit(centred, labels)
    if unfinished := int((machine.n_iter_ >= _MAX_ITERATIONS).sum()):
        log.warning(
            "the linear SVM with C=%g did not converge within %s iterations for %d of %d pairs of "
            "classes; a smaller C makes it easier",
            C, f"{_MAX_ITERATIONS:,}", unfinished, len(machine.n_iter_),
        )  # fmt: skip
    # For two classes scikit-learn gives the margin the sign of the second one.
    sign = -1.0 if len(classes) == 2 else 1.0
    weights, biases = sign * machine.coef_, sign * machine.intercept_
    names = tuple(int(c) for c in classes)
    return FittedSvm(names, weights, biases, origin, C, C_from, machine)


def choose_strength(
    features: NDArray, labels: NDArray, balanced: bool = False
) -> tuple[float, str]:
    """C for features ``(S, C)`` and labels ``(S,)``, and where it is from; see :func:`fit_svm`."""
    if (forced := forced_strength(labels)) is not None:
        return forced, _DEFAULT
    with _quiet():
        return _cross_validate(_centred(features)[0], labels, balanced), CROSS_VALIDATED


def _centred(features: NDArray) -> tuple[NDArray, NDArray]:
    """Features less their mean, and the mean.

    The machine is the same wherever the origin lies, but libsvm keeps products of features in
    single precision: far from the origin they are too coarse for it to converge.
    """
    origin = features.mean(axis=0, dtype=np.float64)
    return features - origin, origin


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of few shapes of many classes, which is what was asked for.

    What did not converge is told by :func:`fit_svm`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        warnings.filterwarnings("ignore", "Solver terminated early", UserWarning)
        yield


def forced_strength(labels: NDArray) -> float | None:
    """What C is where a class has a single one of the items ``(S,)``; None: it can be chosen."""
    if np.unique(labels, return_counts=True)[1].min() > 1:
        return None
    log.info("C=%g: with a single training shape of a class it is not cross-validated", DEFAULT_C)
    return DEFAULT_C


def _cross_validate(features: NDArray, labels: NDArray, balanced: bool) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = min(_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    measure = "balanced_accuracy" if balanced else "accuracy"

    def score(C: float) -> float:
        machine = _machine(C, balanced)
        return float(cross_val_score(machine, features, labels, cv=splits, scoring=measure).mean())

    scores = [score(C) for C in C_GRID]
    best, reached, C = C_GRID[int(np.argmax(scores))], max(scores), C_GRID[-1]
    # C is in units of one over squared features. They may hardly differ from shape to shape, as
    # after a short pre-training.
    needed = C / min(1.0, float(np.square(features).sum(axis=1).mean()) or 1.0)
    while C < _LARGEST_C and (best == C or needed > C):
        C *= 10
        if (further := score(C)) > reached:
            best, reached = C, further
    return best


def _machine(C: float, balanced: bool) -> "SVC":
    from sklearn.svm import SVC  # here: the library is slow to import

    weights = "balanced" if balanced else None
    return SVC(C=C, kernel="linear", class_weight=weights, max_iter=_MAX_ITERATIONS)
