"""The visual tower of CLIP from weights under OpenAI's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pointpeft.errors import CheckpointError
from pointpeft.vision.teacher import ClipTeacher, transformers

__all__ = ["clip_from_openai"]

# Names in OpenAI's files and in transformers, below the visual tower of each.
_CLIP_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.": "embeddings.patch_embedding.",
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
    "transformer.resblocks.": "encoder.layers.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.": ".self_attn.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
_HEAD_WIDTH = 64  # channels of an attention head in every CLIP of OpenAI
_WIDEST = 1024  # channels of the largest one; wider ones of others have heads of other widths
_FIRST = "conv1.weight"  # by which a visual tower is found


def clip_from_openai(
    state: Mapping[str, Tensor],
    origin: str | Path = "the state",
    image_size: int | None = None,
) -> ClipTeacher:
    """The visual tower under OpenAI's names, of the size that its tensors have.

    Args:
        state: tensors by name; of a whole CLIP or I2P-MAE, what is not the tower is left.
        origin: what an error message calls it.
        image_size: side of images in pixels; None: as it was trained with.

    Raises:
        CheckpointError: no such tower, or one of another architecture.
    """
    prefix = next((n.removesuffix(_FIRST) for n in state if n.endswith(f"visual.{_FIRST}")), None)
    if prefix is None:
        raise CheckpointError(
            f"{origin} holds no visual tower of CLIP (visual.{_FIRST}); pass the weights of one of "
            "OpenAI's vision transformers, such as ViT-B-16.pt"
        )
    tower = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    library = transformers()
    try:
        sizes, weights = _clip_sizes(tower), _to_hugging_face(tower)
        network = library.CLIPVisionModelWithProjection(library.CLIPVisionConfig(**sizes))
    except (KeyError, IndexError, ValueError) as error:
        raise _other_network(origin, error) from error
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise _other_network(origin, error) from error
    return ClipTeacher(network, image_size)


def _other_network(origin: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{origin} holds no vision transformer of CLIP: {error}; its residual networks (RN50 "
        "and others) have no patch tokens to learn from"
    )


def _to_hugging_face(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of ``CLIPVisionModelWithProjection`` for a tower under OpenAI's names."""
    renamed = {}
    for name, tensor in tower.items():
        values = tensor.float()
        for theirs, ours in _CLIP_NAMES.items():
            name = name.replace(theirs, ours)
        if name == "proj":  # used as x @ proj there
            renamed["visual_projection.weight"] = values.T
        elif ".in_proj_" in name:
            for part, rows in zip("qkv", values.chunk(3), strict=True):
                renamed[f"vision_model.{name.replace('in_proj_', f'{part}_proj.')}"] = rows
        else:
            renamed[f"vision_model.{name}"] = values
    return renamed


def _clip_sizes(tower: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of transformers that give tensors of these shapes."""
    width, _, patch, _ = tower[_FIRST].shape
    if width > _WIDEST:
        raise ValueError(f"{width} channels, and those of OpenAI have at most {_WIDEST}")
    tokens = tower["positional_embedding"].shape[0]
    blocks = {name.split(".")[2] for name in tower if name.startswith("transformer.resblocks.")}
    return {
        "hidden_size": width,
        "intermediate_size": tower["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": len(blocks),
        "num_attention_heads": max(width // _HEAD_WIDTH, 1),
        "image_size": round((tokens - 1) ** 0.5) * patch,
        "patch_size": patch,
        "projection_dim": tower["proj"].shape[1],
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
