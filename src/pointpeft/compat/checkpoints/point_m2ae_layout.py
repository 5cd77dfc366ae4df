"""Layouts of published Point-M2AE checkpoints."""

from collections.abc import Sequence

from pointpeft.models.layout import TOKENIZER_CONVOLUTIONS, Layout, block_depths

__all__ = [
    "POINT_M2AE_CLASSIFICATION",
    "POINT_M2AE_PRETRAINED",
    "POINT_M2AE_SEGMENTATION",
    "point_m2ae_classification_layout",
    "encoder_depths",
    "encoder_rules",
    "point_m2ae_pretrained_layout",
    "point_m2ae_segmentation_layout",
]

PUBLISHED_DEPTHS = (5, 5, 5)
"""Blocks per scale of every released file; a file shows its own."""


def encoder_rules(depths: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Rules of an encoder with these depths; blocks are published by scale, ours are in one row."""
    places = [(scale, block) for scale, depth in enumerate(depths) for block in range(depth)]
    return (
        ("h_encoder.token_embed.*.", "backbone.tokenizers.*.embed."),
        ("h_encoder.encoder_pos_embeds.*.", "backbone.pos_embeds.*."),
        ("h_encoder.encoder_norms.*.", "backbone.norms.*."),
        *(
            (f"h_encoder.encoder_blocks.{scale}.blocks.{block}.", f"backbone.blocks.{place}.")
            for place, (scale, block) in enumerate(places)
        ),
        ("h_encoder.", "backbone."),  # what is left of it is refused as an encoder's entry
    )


def encoder_depths(names: Sequence[str]) -> tuple[int, ...]:
    """Blocks per scale of the encoder that state-dict ``names`` are of."""
    return block_depths(names, "h_encoder.encoder_blocks.")


def point_m2ae_pretrained_layout(depths: Sequence[int] = PUBLISHED_DEPTHS) -> Layout:
    """Of pre-training, for an encoder with ``depths`` blocks per scale."""
    return Layout(
        "Point-M2AE, pre-trained",
        ("h_encoder.", "h_decoder.", "rec_head."),
        (
            *encoder_rules(depths),
            ("mask_token", "decoder.mask_token"),
            ("h_decoder.*.blocks.*.", "decoder.stages.*.*."),
            ("decoder_pos_embeds.*.", "decoder.pos_embeds.*."),
            ("token_prop.*.fuse.net.", "decoder.propagations.*.fuse."),
            ("token_prop.*.extraction.operation.*.", "decoder.propagations.*.residuals.*."),
            ("decoder_norm.", "decoder.norm."),
        ),
        (
            TOKENIZER_CONVOLUTIONS,
            (r"^decoder\.propagations\.\d+\.(fuse|residuals\.\d+\.net[12])\.0\.", 1),
            (r"^rec_head\.", 1),
        ),
        model="point_m2ae",
        task="pretraining",
        sizes={"depths": tuple(depths)},
        fit=lambda names: point_m2ae_pretrained_layout(encoder_depths(names)),
    )


def point_m2ae_classification_layout(depths: Sequence[int] = PUBLISHED_DEPTHS) -> Layout:
    """Of fine-tuning, where the coarsest scale alone has a norm, and that of another name.

    By its name, published fine-tuning begins with a fresh norm and not with the pre-trained one.
    """
    norm = ("norm.", f"backbone.norms.{len(depths) - 1}.")
    return Layout(
        "Point-M2AE or I2P-MAE, fine-tuned for classification",
        ("h_encoder.", "norm.", "cls_head_finetune."),
        # Before the encoder's rules, so that our name goes back to this one.
        (norm, *encoder_rules(depths), ("cls_head_finetune.", "head.")),
        model="point_m2ae",
        sizes={"depths": tuple(depths)},
        fit=lambda names: point_m2ae_classification_layout(encoder_depths(names)),
    )


def point_m2ae_segmentation_layout(depths: Sequence[int] = PUBLISHED_DEPTHS) -> Layout:
    """Of part segmentation, for an encoder with ``depths`` blocks per scale."""
    return Layout(
        "Point-M2AE or I2P-MAE, fine-tuned for part segmentation",
        ("h_encoder.", "label_conv.", "propagations.", "convs4."),
        (
            *encoder_rules(depths),
            ("label_conv.0.", "category.linear."),
            ("label_conv.1.", "category.norm."),
            ("propagations.*.mlp_convs.", "propagations.*.mlp.linears."),
            ("propagations.*.mlp_bns.", "propagations.*.mlp.norms."),
            *((f"convs{i}.", f"fc{i}.") for i in (1, 2, 3, 4)),
            *((f"bns{i}.", f"norm{i}.") for i in (1, 2, 3)),
        ),
        (
            TOKENIZER_CONVOLUTIONS,
            (r"^category\.linear|^propagations\.\d+\.mlp\.linears\.|^fc[1234]\.", 1),
        ),
        model="point_m2ae",
        task="part_segmentation",
        sizes={"depths": tuple(depths)},
        fit=lambda names: point_m2ae_segmentation_layout(encoder_depths(names)),
    )


POINT_M2AE_PRETRAINED = point_m2ae_pretrained_layout()
"""Encoder and decoder of pre-training at the published depth."""
POINT_M2AE_CLASSIFICATION = point_m2ae_classification_layout()
"""Encoder and classification head at the published depth; I2P-MAE's have the same names."""
POINT_M2AE_SEGMENTATION = point_m2ae_segmentation_layout()
"""Encoder and part-segmentation head at the published depth; I2P-MAE's have the same names."""
