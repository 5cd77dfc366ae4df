"""BatchNorm over all processes on CPUs, which torch has for GPUs alone."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["CpuSyncBatchNorm", "synchronized_batch_norm"]


class CpuSyncBatchNorm(LayerSync):
    """Lends BatchNorm layers another forward while they are trained."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Let the layers of ``model`` take mean and variance over all processes."""
        for layer in _layers(model):
            layer.forward = partial(synchronized_batch_norm, layer)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give the layers their own forward back."""
        for layer in _layers(model):
            del layer.forward
        return model


def synchronized_batch_norm(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What ``layer`` makes of ``x (B, C, ...)`` as a part of the batch of all processes.

    Each of them must call it at the same time, with as many channels. In eval mode it is the
    layer's own forward.
    """
    if not layer.training:
        return type(layer).forward(layer, x)
    of_channels = x.float().transpose(0, 1)  # (C, B, ...)
    values = of_channels.flatten(1)
    sums = _SumOverProcesses.apply(torch.cat([values.sum(1), values.new_tensor([values.shape[1]])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    # Another sum of all, since a difference of mean squares would be inexact.
    centered = values - mean[:, None]
    variance = _SumOverProcesses.apply(centered.square().sum(1)) / count
    if layer.track_running_stats:
        _track(layer, mean.detach(), variance.detach() * count / (count - 1))
    normal = centered * torch.rsqrt(variance + layer.eps)[:, None]
    if layer.affine:
        normal = normal * layer.weight[:, None] + layer.bias[:, None]
    return normal.view_as(of_channels).transpose(0, 1).to(x.dtype)


@torch.no_grad()
def _track(layer: Any, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics on."""
    layer.num_batches_tracked.add_(1)
    momentum = 1 / layer.num_batches_tracked if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, momentum)
    layer.running_var.lerp_(variance, momentum)


class _SumOverProcesses(torch.autograd.Function):
    """A sum whose gradient is that of the sum of all processes' losses."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.forward(context, gradient)


def _layers(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
