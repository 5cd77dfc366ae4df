"""How far a shape is from those of the training, and which of them are the nearest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointpeft.locations import anonymous
from pointpeft.measure.named_shapes import NamedShape
from pointpeft.peft import MemoryBank

__all__ = ["UNUSUAL_FROM", "Familiarity", "Neighbor"]

UNUSUAL_FROM = 0.99
"""The score from which on a shape is worth a warning."""
_NEAREST = 3
_COMPARED = 2000
"""Training shapes at most whose own nearest one is looked up."""
_AT_A_TIME = 256


@dataclass(frozen=True)
class Neighbor:
    """A training shape that is near.

    Attributes:
        label: its class; None where the memory does not say.
        similarity: cosine of the frozen features, -1 to 1.
        id: by which the adapter knows the shape, no name.
        name: its name, where the training data was given.
        points: it as it was made ready for training, where the data was given, ``(N, 3)`` y up in
            farthest point order: an adapter itself holds no shapes.
    """

    label: str | None
    similarity: float
    id: str
    name: str | None = None
    points: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Familiarity:
    """Compares frozen features of shapes with those of the training shapes.

    Args:
        bank: the training shapes.
        class_names: what their labels stand for.
        named: names and points of shapes by what they are :attr:`known` by, as far as they were
            found; see :func:`pointpeft.measure.named_shapes.find_shapes`.
    """

    bank: MemoryBank
    class_names: Sequence[str]
    named: dict[str, NamedShape] = field(default_factory=dict)

    @classmethod
    def of(cls, bank: MemoryBank, class_names: Sequence[str]) -> "Familiarity":
        """With a copy of a bank whose features have norm one in full precision, not in half."""
        features = F.normalize(bank.features.float(), dim=0)
        return cls(MemoryBank(features, bank.labels, bank.ids), class_names)

    @cached_property
    def known(self) -> frozenset[str]:
        """What the training shapes are known by."""
        return frozenset(map(anonymous, self.bank.ids))

    def unusual(self, query: Tensor) -> list[float | None]:
        """The share of training shapes that are nearer to their nearest one than each shape is.

        Distances are one minus the cosine of frozen features. A training shape is compared with the
        others, not with itself. So 0.5 is ordinary, and 1 is farther off than any.

        Args:
            query: frozen features of shapes, ``(B, C)``.

        Returns:
            A share for each, 0 to 1; None where there is only one training shape.
        """
        if len(self.bank) < 2:
            return [None] * len(query)
        nearest = self.bank.retrieve(query, 1).similarity[:, 0].cpu().numpy()
        own = self._own_similarity
        nearer = len(own) - np.searchsorted(own, nearest, side="right")
        return (nearer / len(own)).tolist()

    def nearest(self, query: Tensor) -> list[tuple[Neighbor, ...]]:
        """The training shapes nearest to each shape, up to three, the nearest one first.

        ``query`` is as for :meth:`unusual`.
        """
        found = self.bank.retrieve(query, min(_NEAREST, len(self.bank)))
        rows = zip(found.similarity.tolist(), found.indices.tolist(), strict=True)
        return [tuple(self._neighbor(*pair) for pair in zip(*row, strict=True)) for row in rows]

    def _neighbor(self, similarity: float, place: int) -> Neighbor:
        known, label = anonymous(self.bank.ids[place]), int(self.bank.labels[place])
        name = self.class_names[label] if 0 <= label < len(self.class_names) else None
        return Neighbor(name, min(1.0, similarity), known, *self.named.get(known, ()))

    @cached_property
    def _own_similarity(self) -> NDArray[np.float32]:
        """Of training shapes to the nearest other one, ascending, ``(M,)``."""
        M = len(self.bank)
        places = torch.linspace(0, M - 1, min(M, _COMPARED)).round().long()
        found = []
        for some in places.to(self.bank.features.device).split(_AT_A_TIME):
            query = self.bank.features.T[some]
            found.append(self.bank.retrieve(query, 1, exclude=some).similarity[:, 0])
        return torch.cat(found).sort().values.cpu().numpy()
