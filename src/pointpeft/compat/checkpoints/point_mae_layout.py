"""Layouts of published Point-MAE checkpoints."""

from pointpeft.models.layout import TOKENIZER_CONVOLUTIONS, Layout

__all__ = [
    "POINT_MAE_CLASSIFICATION",
    "POINT_MAE_PRETRAINED",
    "POINT_MAE_SEGMENTATION",
    "SEGMENTATION_CONVOLUTIONS",
]

POINT_MAE_PRETRAINED = Layout(
    "Point-MAE, pre-trained",
    ("MAE_encoder.", "MAE_decoder."),
    (
        ("MAE_encoder.encoder.", "backbone.tokenizer.embed."),
        ("MAE_encoder.blocks.blocks.", "backbone.blocks."),
        ("MAE_encoder.", "backbone."),
        ("MAE_decoder.", "decoder."),
        ("increase_dim.0.", "increase_dim."),
    ),
    (TOKENIZER_CONVOLUTIONS, ("increase_dim", 1)),
    model="point_mae",
    task="pretraining",
)
"""Encoder and decoder of pre-training."""

POINT_MAE_CLASSIFICATION = Layout(
    "Point-MAE, fine-tuned for classification",
    ("encoder.", "blocks.blocks.", "cls_head_finetune."),
    (
        ("encoder.", "backbone.tokenizer.embed."),
        ("pos_embed.", "backbone.pos_embed."),
        ("blocks.blocks.", "backbone.blocks."),
        ("norm.", "backbone.norm."),
        ("cls_head_finetune.", "head."),
    ),
    model="point_mae",
    absent=("prompt_cor",),  # of Point-PEFT, whose blocks hold more
)
"""Encoder and classification head."""

SEGMENTATION_CONVOLUTIONS = (
    TOKENIZER_CONVOLUTIONS,
    (r"category\.linear|propagation\.mlp\.linears\.|^fc[123]\.", 1),
)
"""Of the encoder and the part-segmentation head."""

POINT_MAE_SEGMENTATION = Layout(
    "Point-MAE, fine-tuned for part segmentation",
    ("encoder.", "blocks.blocks.", "label_conv.", "propagation_0.", "convs3."),
    (
        *POINT_MAE_CLASSIFICATION.rules[:-1],
        ("label_conv.0.", "category.linear."),
        ("label_conv.1.", "category.norm."),
        ("propagation_0.mlp_convs.", "propagation.mlp.linears."),
        ("propagation_0.mlp_bns.", "propagation.mlp.norms."),
        *((f"convs{i}.", f"fc{i}.") for i in (1, 2, 3)),
        *((f"bns{i}.", f"norm{i}.") for i in (1, 2)),
    ),
    SEGMENTATION_CONVOLUTIONS,
    model="point_mae",
    task="part_segmentation",
)
"""Encoder and part-segmentation head."""
