"""Linear layers of concatenated features, multiplied part by part."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["is_plain", "split_linear", "split_mlp"]


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes what its weights say, so that they may be used without calling it.

    Not plain are a layer with a hook, and another module in the place of ``nn.Linear`` or
    ``nn.Sequential``, such as one with a low-rank adapter: these must be called.
    """
    if type(layer) not in (nn.Linear, nn.Sequential) or "forward" in layer.__dict__:
        return False
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return not any(hooks)  # hooks for all modules do not count: FLOP counters set some


def split_linear(layer: nn.Module, *parts: Tensor) -> Tensor:
    """``layer(torch.cat(parts, dim=-1))`` of parts that are broadcast against each other.

    A plain layer multiplies every part before it is broadcast: what is common to all points of a
    patch or a cloud is multiplied once, not once per point.

    Args:
        layer: linear, its input channels those of all parts.
        parts: ``(..., c)``, with leading axes of equal number, each of equal size or 1.
    """
    if not is_plain(layer):
        return layer(_concatenate(parts))
    weights = layer.weight.split([part.shape[-1] for part in parts], dim=1)  # type: ignore[operator]
    x = F.linear(parts[0], weights[0], layer.bias)  # type: ignore[arg-type]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        y = F.linear(part, weight)
        # In place where it fits: these are the largest arrays of a forward pass.
        x = y.add_(x) if y.shape == torch.broadcast_shapes(x.shape, y.shape) else x + y
    return x


def split_mlp(mlp: nn.Module, *parts: Tensor) -> Tensor:
    """``mlp(torch.cat(parts, dim=-1))`` as rows ``(R, C)``, see :func:`split_linear`.

    Args:
        mlp: a sequence of layers on rows, of which the first is linear.
        parts: ``(..., c)``.
    """
    if not is_plain(mlp):
        return mlp(_concatenate(parts).flatten(0, -2))
    first, rest = mlp[0], mlp[1:]  # type: ignore[index]
    return rest(split_linear(first, *parts).flatten(0, -2))


def _concatenate(parts: tuple[Tensor, ...]) -> Tensor:
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*leading, -1) for part in parts], dim=-1)
