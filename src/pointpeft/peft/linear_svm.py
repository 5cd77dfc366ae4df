"""A linear SVM on frozen features, as a method: fitted in seconds, and then an adapter like any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointpeft.errors import ConfigError, DataError
from pointpeft.formats import enumerate_names
from pointpeft.models.heads import Classifier
from pointpeft.ops._checks import values_are_known
from pointpeft.peft.method import FittedTuner, PeftConfig

if TYPE_CHECKING:
    from sklearn.svm import SVC

__all__ = ["C_GRID", "FittedSvm", "SVMConfig", "SVMTuner", "check_can_choose", "fit_svm"]

C_GRID = tuple(float(C) for C in np.logspace(-3, 3, 13))
"""What cross-validation chooses C from: 0.001, 0.00316, ..., 1000."""
_FOLDS = 5
_MAX_ITERATIONS = 100_000  # per pair of classes; ordinary pairs take a few thousand


@dataclass(frozen=True)
class SVMConfig(PeftConfig):
    """A linear support vector machine; nothing is trained by epochs."""

    method = "svm"
    fitted = True

    C: float | None = None  # inverse regularisation strength; None: cross-validated on train

    def __post_init__(self) -> None:
        if self.C is not None and not self.C > 0:
            raise ConfigError(f"C must be positive, got {self.C!r}")


class SVMTuner(FittedTuner):
    """One machine for every pair of classes; the logits are those of scikit-learn's ``SVC``."""

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

    def check_data(self, labels: NDArray, class_names: Sequence[str]) -> None:
        """Two shapes or more of each class, where C is to be chosen."""
        if self.config.C is None:
            check_can_choose(labels, class_names)

    def fit(
        self, features: Tensor, labels: Tensor, ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Fit the machines to features ``(S, C)`` and labels ``(S,)``; returns ``C``."""
        fitted = fit_svm(features.double().numpy(), labels.numpy(), self.config.C)
        place = {tuple(pair): n for n, pair in enumerate(zip(*self._pairs(), strict=True))}
        rows = [place[a, b] for i, a in enumerate(fitted.classes) for b in fitted.classes[i + 1 :]]
        with torch.no_grad():
            self.pairs.weight.zero_()
            self.pairs.bias.zero_()
            self.pairs.weight[rows] = torch.from_numpy(fitted.weights).to(self.pairs.weight)
            self.pairs.bias[rows] = torch.from_numpy(fitted.biases).to(self.pairs.bias)
            self.origin.copy_(torch.from_numpy(fitted.origin))
            self.present.zero_()[list(fitted.classes)] = True
        return {"C": fitted.C, "C_tuned": fitted.tuned}

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
        return found.masked_fill(~self.present, -1.0)  # below what any class can get

    def _pairs(self) -> tuple[list[int], list[int]]:
        return self.first.tolist(), self.second.tolist()


@dataclass(frozen=True)
class FittedSvm:
    """Linear machines of all pairs of classes, in their order: (0, 1), (0, 2), ..., (1, 2), ...

    Attributes:
        classes: labels that occur, ascending.
        weights: ``(pairs, C)``; a positive margin is a vote for the first class of a pair.
        biases: ``(pairs,)``.
        origin: ``(C,)``, subtracted from features.
        C: inverse regularisation strength that was used.
        tuned: whether it was chosen by cross-validation.
        machine: the ``sklearn.svm.SVC``.
    """

    classes: tuple[int, ...]
    weights: NDArray
    biases: NDArray
    origin: NDArray
    C: float
    tuned: bool
    machine: Any


def fit_svm(features: NDArray, labels: NDArray, C: float | None = None) -> FittedSvm:
    """Fit ``sklearn.svm.SVC(kernel="linear")``.

    All else is default but the iterations, which end at 100,000 per pair of classes: the default
    has no end where features cannot be separated.

    Args:
        features: ``(S, C)``; not scaled, as in the papers.
        labels: ``(S,)`` integers.
        C: inverse regularisation strength; None chooses from :data:`C_GRID` by stratified 5-fold
            cross-validation (the smallest of the best).

    Raises:
        DataError: fewer than two classes, too few items of a class to cross-validate, or features
            that are not finite.
    """
    if not np.isfinite(features).all():
        raise DataError("features are NaN or infinite: the weights of the encoder are damaged")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(
            f"a linear SVM needs two classes or more, the training set has {len(classes)}"
        )
    if C is None:
        check_can_choose(labels)
    # The machine is the same wherever the origin lies, but libsvm keeps products of features in
    # single precision: far from the origin they are too coarse for it to converge.
    origin = features.mean(axis=0, dtype=np.float64)
    centred = features - origin
    tuned = C is None
    if C is None:
        C = _cross_validate(centred, labels)
    machine = _machine(C).fit(centred, labels)
    # For two classes scikit-learn gives the margin the sign of the second one.
    sign = -1.0 if len(classes) == 2 else 1.0
    weights, biases = sign * machine.coef_, sign * machine.intercept_
    names = tuple(int(c) for c in classes)
    return FittedSvm(names, weights, biases, origin, C, tuned, machine)


def check_can_choose(
    labels: NDArray, class_names: Sequence[str] = (), setting: str = "C, for --method svm peft.C=1"
) -> None:
    """Refuse training items by which C cannot be cross-validated.

    Args:
        labels: ``(S,)`` integers.
        class_names: what they stand for, for the message.
        setting: what there is to pass instead.

    Raises:
        DataError: a class has a single item; the message names it.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if single := [class_names[c] if class_names else c for c in classes[counts < 2]]:
        raise DataError(
            f"C cannot be cross-validated: a single training shape in {enumerate_names(single)}; "
            f"add shapes, or pass {setting} (in the papers 0.01 to 0.042)"
        )


def _cross_validate(features: NDArray, labels: NDArray) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = min(_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = [cross_val_score(_machine(C), features, labels, cv=splits).mean() for C in C_GRID]
    return C_GRID[int(np.argmax(scores))]


def _machine(C: float) -> "SVC":
    from sklearn.svm import SVC  # here: the library is slow to import

    return SVC(C=C, kernel="linear", max_iter=_MAX_ITERATIONS)
