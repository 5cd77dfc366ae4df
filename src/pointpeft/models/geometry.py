"""What a block may know about where its tokens are: one small frozen object per forward pass."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.nn import functional as F

__all__ = ["Geometry", "Scale"]

T = TypeVar("T")


class Scale(NamedTuple):
    """One scale of a backbone, which has a single one unless it is hierarchical.

    Attributes:
        blocks: places of its blocks in ``backbone.blocks``.
        dim: channels C of its tokens.
        num_groups: patches G of a cloud.
        group_size: members S of a patch: points, or patches of the finer scale.
    """

    blocks: range
    dim: int
    num_groups: int
    group_size: int


@dataclass(frozen=True)
class Geometry:
    """Coordinates behind the tokens of one forward pass.

    Every block of a backbone (of a scale, where it has several) receives the same object, so
    whatever depends on coordinates alone (neighbourhoods, interpolation weights, masks) is
    computed on first use and then reused.

    Attributes:
        points: the cloud ``(B, N, 3)``.
        centers: patch centers ``(B, G, 3)``, in the order of the patch tokens.
        context: conditioning tensors that the caller of the model hands to its blocks.
        attention_bias: ``(B, 1, T, T)``, added to the attention scores of every block; None where
            all tokens see each other.
    """

    points: Tensor
    centers: Tensor
    context: Mapping[str, Tensor] = field(default_factory=dict)
    attention_bias: Tensor | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def grown(self, count: int) -> "Geometry":
        """The geometry of a sequence with ``count`` more tokens in front, which all see."""
        bias = self.attention_bias
        if bias is None:
            return self
        return Geometry(self.points, self.centers, self.context, F.pad(bias, (count, 0, count, 0)))

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return ``compute()``, evaluated at the first call with this ``key`` only."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]
