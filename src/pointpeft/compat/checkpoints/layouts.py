"""All layouts of published checkpoints, and those of tuned networks by Point-PEFT."""

from collections.abc import Sequence

from pointpeft.compat.checkpoints.backbone_layouts import (
    BACKBONE_LAYOUTS,
    POINT_MAE_CLASSIFICATION,
    PUBLISHED_DEPTHS,
    block_places,
)
from pointpeft.models.checkpoint import Layout

__all__ = ["LAYOUTS", "POINT_PEFT_M2AE", "POINT_PEFT_MAE", "point_peft_m2ae"]


def _block(published: str, place: int | str) -> tuple[tuple[str, str], ...]:
    """Rules of one block, or with ``*`` of all blocks of a single scale."""
    ours = f"tuner.blocks.{place}."
    return (
        (f"{published}ad_gate", f"{ours}gate"),
        (f"{published}prompt_embeddings", f"{ours}prompt_embeddings"),
        (f"{published}cp_adapter.", f"{ours}bank_adapter."),
        (f"{published}adapter.", f"{ours}adapter."),
        (f"{published}adapter1.", f"{ours}output_adapter."),
        (f"{published}out_transform.", f"{ours}out_transform."),
        (published, f"model.backbone.blocks.{place}."),
    )


def _shared(published: str, scale: int) -> tuple[tuple[str, str], ...]:
    """Rules of what the blocks of a scale share."""
    ours = f"tuner.scales.{scale}."
    return (
        (f"{published}attn1.", f"{ours}local_attention."),
        (f"{published}norm3.", f"{ours}local_norm."),
    )


def point_peft_m2ae(depths: Sequence[int] = PUBLISHED_DEPTHS) -> Layout:
    """Of Point-PEFT on Point-M2AE with ``depths`` blocks per scale; ours are in one row."""
    return Layout(
        "Point-PEFT on Point-M2AE",
        ("prompt_cor", "encoders.", "blocks.0.attn1."),
        (
            ("prompt_cor", "tuner.prompt_centers"),
            *(rule for s in range(len(depths)) for rule in _shared(f"blocks.{s}.", s)),
            *(
                rule
                for place, (scale, block) in enumerate(block_places(depths))
                for rule in _block(f"blocks.{scale}.blocks.{block}.", place)
            ),
            ("encoders.*.", "model.backbone.tokenizers.*.embed."),
            ("pos_embeds.*.", "model.backbone.pos_embeds.*."),
            ("norm.", f"model.backbone.norms.{len(depths) - 1}."),
            ("cls_head_finetune.", "model.head."),
        ),
        model="point_m2ae",
        tuned=True,
        sizes={"depths": tuple(depths)},
        fit=point_peft_m2ae,
        blocks="blocks.",
    )


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
    tuned=True,
)  # fmt: skip

POINT_PEFT_M2AE = point_peft_m2ae()

LAYOUTS = (POINT_PEFT_M2AE, POINT_PEFT_MAE, *BACKBONE_LAYOUTS)
"""In the order in which they are tried: tuned networks have all that plain ones have."""
