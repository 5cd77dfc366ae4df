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
_SCALES = {
    "num_groups": (24, 16, 8), "group_sizes": (8, 4, 4), "dims": (12, 18, 24),
    "depths": (1, 1, 2), "patch_widths": (8, 12, 16),
}  # fmt: skip
#: Encoders with two and with four scales.
TWO: dict[str, Any] = {
    "num_groups": (16, 8), "group_sizes": (8, 4), "dims": (12, 24), "depths": (2, 1),
    "local_radius": (0.5, 1.0),
}  # fmt: skip
FOUR: dict[str, Any] = {
    "num_groups": (24, 16, 12, 6), "group_sizes": (8, 2, 2, 2), "dims": (6, 12, 18, 24),
    "depths": (1, 2, 1, 1), "local_radius": (0.4, 0.6, 0.0, 1.2),
}  # fmt: skip
_SIZES_OF: dict[str, dict[str, Any]] = {
    "i2p_mae": _SCALES,
    "i2p_mae_small": _SCALES,
    "point_bert": SIZES | {"embed_dim": 16},
    "point_bert_small": SIZES | {"embed_dim": 16},
    "point_m2ae": _SCALES,
    "point_m2ae_small": _SCALES,
    "point_bert_dvae": {
        "num_groups": 8, "group_size": 8, "embed_dim": 16, "num_tokens": 12, "token_dim": 10,
        "decoder_dim": 16, "patch_widths": (8, 12, 16),
    },
}  # fmt: skip
_COUNTS = {"classification": {"num_classes": 4}, "part_segmentation": {"num_parts": 5}}
_BERT = {"queue_size": 16, "feature_dim": 10, "num_tokens": 12}
_IMAGES = {
    "teacher": "random", "teacher_image_size": 32, "teacher_patch_size": 8, "teacher_channels": 5,
}  # fmt: skip
# Where gradients of what is rebuilt stop, the gradient of the loss is none of a function.
_CENTERS = {"decoder_depth": 2, "detach_centers": False}
_PRETRAINING = {
    "i2p_mae": _IMAGES,
    "i2p_mae_small": _IMAGES,
    "pcp_mae": _CENTERS,
    "pcp_mae_small": _CENTERS,
    "point_bert": _BERT,
    "point_bert_small": _BERT,
    "point_mae": {"decoder_depth": 2},
    "point_mae_small": {"decoder_depth": 2},
}


def tiny(task: str = "features", name: str = "point_mae", **settings: Any) -> Any:
    """A network of the registry, narrow enough for tests."""
    sizes = _SIZES_OF.get(name, SIZES)
    own = _PRETRAINING.get(name, {}) if task == "pretraining" else _COUNTS.get(task, {})
    return pp.create_model(name, task=task, **{**sizes, **own, **settings})


def run(model: Any, points: Tensor) -> Tensor:
    """One tensor that holds all that a model of any task makes of ``points``."""
    if hasattr(model, "num_parts"):
        return model(points, torch.arange(len(points)))
    output = model(points)
    return getattr(output, "tokens", output)


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
