"""Networks and clouds small enough that a test takes milliseconds."""

from typing import Any

import torch
from torch import Tensor

import pointpeft as pp

SIZES: dict[str, Any] = {
    "num_groups": 8,
    "group_size": 8,
    "dim": 24,
    "depth": 3,
    "num_heads": 6,
    "patch_widths": (8, 12, 16),
}
TASKS: dict[str, dict[str, Any]] = {
    "features": {},
    "classification": {"num_classes": 4},
    "pretraining": {"decoder_depth": 2},
}


def tiny(task: str = "features", name: str = "point_mae", **settings: Any) -> Any:
    return pp.create_model(name, task=task, **{**SIZES, **TASKS[task], **settings})


def clouds(count: int = 3, points: int = 64, seed: int = 0) -> Tensor:
    """Clouds ``(count, points, 3)`` on the unit sphere, slightly off it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, points, 3, generator=generator)
    radius = 0.9 + 0.1 * torch.rand(count, points, 1, generator=generator)
    return x / x.norm(dim=-1, keepdim=True) * radius


def settle(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give norms and biases values that a trained model has, so that none of them is trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
                change = 0.2 * noise if name.endswith("running_var") else 0.2 * (noise - 0.5)
                tensor.add_(change.to(tensor))
    return model
