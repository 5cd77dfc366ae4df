"""Names of parameters in published Point-PEFT checkpoints."""

from pointpeft.models.published import POINT_MAE_CLASSIFICATION, Layout

__all__ = ["POINT_PEFT_MAE"]

_BLOCK = "model.backbone.blocks.*."

POINT_PEFT_MAE = Layout(
    "Point-PEFT on Point-MAE",
    ("prompt_cor", "blocks.attn1."),
    (
        ("prompt_cor", "tuner.prompt_centers"),
        ("blocks.attn1.", "tuner.local_attention."),
        ("blocks.norm3.", "tuner.local_norm."),
        ("blocks.blocks.*.ad_gate", f"{_BLOCK}ad_gate"),
        ("blocks.blocks.*.prompt_embeddings", f"{_BLOCK}prompt_embeddings"),
        ("blocks.blocks.*.cp_adapter.", f"{_BLOCK}bank_adapter."),
        ("blocks.blocks.*.adapter.", f"{_BLOCK}adapter."),
        ("blocks.blocks.*.adapter1.", f"{_BLOCK}output_adapter."),
        ("blocks.blocks.*.out_transform.", f"{_BLOCK}out_transform."),
        ("blocks.blocks.*.", f"{_BLOCK}block."),
        *((published, f"model.{ours}") for published, ours in POINT_MAE_CLASSIFICATION.rules
          if published != "blocks.blocks."),
        ("cls_", "model.cls_"),
    ),
)  # fmt: skip
