"""What the training loop of pre-training needs of a network."""

import abc
from typing import Any

from torch import Tensor

from pointpeft.models.loadable import Loadable

__all__ = ["Pretrainable"]


class Pretrainable(Loadable, abc.ABC):
    """A network that is pre-trained: its forward returns a loss.

    Attributes:
        step: optimiser steps so far, as the loop says.
    """

    step: int = 0

    @property
    @abc.abstractmethod
    def copies(self) -> int:
        """Differently augmented copies of a batch that the loss wants, one after the other."""

    @property
    def leaves_idle(self) -> bool:
        """Whether some parameters that are trained get no gradient, as no term reaches them."""
        return False

    @abc.abstractmethod
    def losses(self, points: Tensor, *given: Any, **named: Any) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars, before weighting."""

    @abc.abstractmethod
    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The loss: the weighted sum of the terms."""

    def forward(self, points: Tensor, *given: Any, **named: Any) -> Tensor:
        """The loss, a scalar: the weighted sum of :meth:`losses`, whose arguments it takes."""
        return self.total(self.losses(points, *given, **named))
