"""Several modules over one memory: how any number of adapters share a trunk."""

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import nn

__all__ = ["frozen_view", "view"]

M = TypeVar("M", bound=nn.Module)


def frozen_view(module: M) -> M:
    """The same module over the same memory, in eval mode and with nothing to train.

    ``module`` stays as it is: parameters that it trains, its mode and its device are its own.
    """
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, memo=dict(frozen)).eval()


def view(module: M, owns: Callable[[str], bool] = lambda name: False) -> M:
    """The same module with the very same parameters, but for those that it is to own.

    So a device or a precision that one of them is moved to holds for both. Buffers, such as running
    statistics, are a few thousand values and always copied.

    Args:
        module: with frozen parameters.
        owns: whether the parameter of a name is copied.
    """
    shared = {id(p): p for name, p in module.named_parameters() if not owns(name)}
    return copy.deepcopy(module, memo=dict(shared))
