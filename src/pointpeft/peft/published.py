"""Published Point-PEFT checkpoints: their names, and the model that they fit."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from typing import Any

from pointpeft.errors import CheckpointError
from pointpeft.models.checkpoint import Checkpoint
from pointpeft.models.filling import fill
from pointpeft.models.published import POINT_MAE_CLASSIFICATION, Layout, register_layout
from pointpeft.models.published.layout import block_depths
from pointpeft.peft.model import PeftModel, get_peft_model
from pointpeft.peft.point_peft import PointPeftConfig

__all__ = ["POINT_PEFT_M2AE", "POINT_PEFT_MAE", "attach_published", "point_peft_m2ae"]

log = logging.getLogger("pointpeft")

_DEPTHS = (5, 5, 5)
"""Blocks per scale of the published Point-M2AE."""


def _block(published: str, place: int | str) -> tuple[tuple[str, str], ...]:
    """Rules of one wrapped block, or with ``*`` of all blocks of a single scale."""
    ours = f"model.backbone.blocks.{place}."
    return (
        (f"{published}ad_gate", f"{ours}gate"),
        (f"{published}prompt_embeddings", f"{ours}prompt_embeddings"),
        (f"{published}cp_adapter.", f"{ours}bank_adapter."),
        (f"{published}adapter.", f"{ours}adapter."),
        (f"{published}adapter1.", f"{ours}output_adapter."),
        (f"{published}out_transform.", f"{ours}out_transform."),
        (published, f"{ours}block."),
    )


def _shared(published: str, scale: int) -> tuple[tuple[str, str], ...]:
    """Rules of what the blocks of a scale share."""
    ours = f"tuner.scales.{scale}."
    return (
        (f"{published}attn1.", f"{ours}local_attention."),
        (f"{published}norm3.", f"{ours}local_norm."),
    )


def point_peft_m2ae(depths: Sequence[int] = _DEPTHS) -> Layout:
    """Of Point-PEFT on Point-M2AE with ``depths`` blocks per scale; ours are in one row."""
    places = [(scale, block) for scale, depth in enumerate(depths) for block in range(depth)]
    return Layout(
        "Point-PEFT on Point-M2AE",
        ("prompt_cor", "encoders.", "blocks.0.attn1."),
        (
            ("prompt_cor", "tuner.prompt_centers"),
            *(rule for s in range(len(depths)) for rule in _shared(f"blocks.{s}.", s)),
            *(
                rule
                for place, (scale, block) in enumerate(places)
                for rule in _block(f"blocks.{scale}.blocks.{block}.", place)
            ),
            ("encoders.*.", "model.backbone.tokenizers.*.embed."),
            ("pos_embeds.*.", "model.backbone.pos_embeds.*."),
            ("norm.", f"model.backbone.norms.{len(depths) - 1}."),
            ("cls_head_finetune.", "model.head."),
        ),
        model="point_m2ae",
        attach=attach_published,
        sizes={"depths": tuple(depths)},
        fit=lambda names: point_peft_m2ae(block_depths(names, "blocks.")),
    )


def attach_published(model: Any, checkpoint: Checkpoint) -> PeftModel:
    """Put Point-PEFT as published on a fresh classifier, in the sizes of a checkpoint.

    The encoder takes its weights from the checkpoint, so that they are the base of the adapter.

    Raises:
        CheckpointError: ``model`` has no classification head, or its encoder is another one.
    """
    state = checkpoint.state
    heads = [name for name in state if re.fullmatch(r"model\.head\.\d+\.weight", name)]
    if not hasattr(model, "head"):
        count = len(state[heads[-1]]) if heads else "so many"
        raise CheckpointError(
            f"{checkpoint.source} ({checkpoint.layout}) holds a classifier: pass "
            f"num_classes={count}, and the preset that it was trained with"
        )
    _pool_all(model)
    own = {f"backbone.{name}" for name in model.backbone.state_dict()}
    encoder = {_unwrapped(name): tensor for name, tensor in state.items()}
    encoder = {name: tensor for name, tensor in encoder.items() if name in own}
    fill(model.backbone, dataclasses.replace(checkpoint, state=encoder))
    adapted = get_peft_model(model, _settings(checkpoint))
    log.warning(
        "%s: computing as published (reference_compat=True), faults included. Its memory bank is a "
        "separate file: give it by set_bank; until then nothing is retrieved",
        checkpoint.source,
    )
    return adapted


def _unwrapped(name: str) -> str:
    """The name that an entry of an adapted encoder has in the plain one."""
    return re.sub(r"^(backbone\.blocks\.\d+)\.block\.", r"\1.", name.removeprefix("model."))


def _settings(checkpoint: Checkpoint) -> PointPeftConfig:
    """The published computation in the sizes that the tensors of a checkpoint have."""
    found = {
        "num_prompts": ("prompt_centers", 0),
        "adapter_dim": (".adapter.ln1.weight", 0),
        "bank_adapter_dim": (".bank_adapter.ln1.weight", 0),
        "attention_dim": (".local_attention.proj.weight", 1),
    }
    sizes: dict[str, Any] = {
        key: tensor.shape[axis]
        for key, (ending, axis) in found.items()
        for name, tensor in checkpoint.state.items()
        if name.endswith(ending)
    }
    return PointPeftConfig(**sizes, reference_compat=True)


def _pool_all(model: Any) -> None:
    """Where published Point-M2AE leaves a token out of the maximum, its Point-PEFT does not."""
    backbone = model.backbone
    if getattr(backbone.config, "pooling", None) == "concat":
        backbone.config = dataclasses.replace(backbone.config, pooling="concat_all")
        config = {**backbone.spec.config, "pooling": "concat_all"}
        backbone.spec = dataclasses.replace(backbone.spec, config=config)


POINT_PEFT_MAE = Layout(
    "Point-PEFT on Point-MAE",
    ("prompt_cor", "encoder.", "blocks.attn1."),
    (
        ("prompt_cor", "tuner.prompt_centers"),
        *_shared("blocks.", 0),
        *_block("blocks.blocks.*.", "*"),
        *((published, f"model.{ours}") for published, ours in POINT_MAE_CLASSIFICATION.rules
          if published != "blocks.blocks."),
        ("cls_", "model.cls_"),
    ),
    model="point_mae",
    attach=attach_published,
)  # fmt: skip

POINT_PEFT_M2AE = point_peft_m2ae()

register_layout(POINT_PEFT_MAE)
register_layout(POINT_PEFT_M2AE)
