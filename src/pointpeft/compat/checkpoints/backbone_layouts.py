"""Layouts of published checkpoints of backbones: of Point-BERT, Point-MAE, PCP-MAE, I2P-MAE, ..."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from pointpeft.models.checkpoint import TOKENIZER_CONVOLUTIONS, Layout

__all__ = [
    "BACKBONE_LAYOUTS",
    "I2P_MAE_PRETRAINED",
    "I2P_MAE_PRETRAINED_WITH_TEACHER",
    "PCP_MAE_CLASSIFICATION",
    "PCP_MAE_PRETRAINED",
    "PCP_MAE_SEGMENTATION",
    "POINT_BERT_CLASSIFICATION",
    "POINT_BERT_PRETRAINED",
    "POINT_BERT_SEGMENTATION",
    "POINT_BERT_TOKENIZER",
    "POINT_M2AE_CLASSIFICATION",
    "POINT_M2AE_PRETRAINED",
    "POINT_M2AE_SEGMENTATION",
    "POINT_MAE_CLASSIFICATION",
    "POINT_MAE_PRETRAINED",
    "POINT_MAE_SEGMENTATION",
    "PUBLISHED_DEPTHS",
    "TEACHER",
    "block_places",
    "by_positions",
    "i2p_mae_pretrained_layout",
    "point_m2ae_classification_layout",
    "point_m2ae_pretrained_layout",
    "point_m2ae_segmentation_layout",
]


def _encoder(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Rules for an encoder whose names begin with ``theirs`` there and with ``ours`` here."""
    return (
        (f"{theirs}encoder.", f"{ours}backbone.tokenizer.embed."),
        (f"{theirs}reduce_dim.", f"{ours}backbone.tokenizer.project."),
        (f"{theirs}pos_embed.", f"{ours}backbone.pos_embed."),
        (f"{theirs}blocks.blocks.", f"{ours}backbone.blocks."),
        (f"{theirs}norm.", f"{ours}backbone.norm."),
    )


def _graph(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Rules for a DGCNN."""
    return (
        (f"{theirs}input_trans.", f"{ours}input."),
        *((f"{theirs}layer{i + 1}.0.", f"{ours}edges.{i}.linear.") for i in range(4)),
        *((f"{theirs}layer{i + 1}.1.", f"{ours}edges.{i}.norm.") for i in range(4)),
        (f"{theirs}layer5.0.", f"{ours}output."),
        (f"{theirs}layer5.1.", f"{ours}norm."),
    )


def _tokenizer(prefix: str) -> tuple[tuple[str, str], ...]:
    """Rules for a discrete variational autoencoder."""
    return (
        (f"{prefix}encoder.", f"{prefix}embed."),
        *_graph(f"{prefix}dgcnn_1.", f"{prefix}classify."),
        *_graph(f"{prefix}dgcnn_2.", f"{prefix}contextualise."),
        (f"{prefix}decoder.final_conv.", f"{prefix}decoder.fold."),
    )


_TOKENIZER_CONVOLUTIONS = (
    TOKENIZER_CONVOLUTIONS,
    (r"(classify|contextualise)\.edges\.\d\.linear", 2),
    (r"(classify|contextualise)\.(input|output)|decoder\.fold\.[036]", 1),
)

POINT_BERT_TOKENIZER = Layout(
    "Point-BERT, tokenizer",
    ("codebook", "dgcnn_1.", "decoder.final_conv."),
    _tokenizer(""),
    _TOKENIZER_CONVOLUTIONS,
    model="point_bert_dvae",
    task="pretraining",
)

POINT_BERT_PRETRAINED = Layout(
    "Point-BERT, pre-trained",
    ("transformer_q.", "transformer_q.reduce_dim."),
    (
        ("dvae.codebook", "dvae.codebook"),
        *_tokenizer("dvae."),
        ("dvae.", "dvae."),
        ("queue", "queue"),
        *_encoder("transformer_k.", "key."),
        ("transformer_k.", "key."),
        *_encoder("transformer_q.", ""),
        ("transformer_q.", ""),
    ),
    _TOKENIZER_CONVOLUTIONS,
    model="point_bert",
    task="pretraining",
)
"""Query and key network of pre-training, the queue of features, and the tokenizer."""

POINT_BERT_CLASSIFICATION = Layout(
    "Point-BERT, fine-tuned for classification",
    ("encoder.", "reduce_dim.", "blocks.blocks.", "cls_head_finetune."),
    (*_encoder("", ""), ("cls_head_finetune.", "head.")),
    model="point_bert",
)

POINT_BERT_SEGMENTATION = Layout(
    "Point-BERT, fine-tuned for part segmentation",
    ("encoder.", "reduce_dim.", "propagation_2.", "dgcnn_pro_1."),
    (
        *_encoder("", ""),
        ("propagation_*.mlp_convs.", "propagations.*.mlp.linears."),
        ("propagation_*.mlp_bns.", "propagations.*.mlp.norms."),
        *(
            (f"dgcnn_pro_{i + 1}.layer{k}.{n}.", f"graphs.{i}.{edge}.{part}.")
            for i in range(2)
            for k, edge in ((1, "across"), (2, "within"))
            for n, part in ((0, "linear"), (1, "norm"))
        ),
        ("conv*.", "fc*."),
        ("bn*.", "norm*."),
    ),
    (
        TOKENIZER_CONVOLUTIONS,
        (r"graphs\.\d\.(across|within)\.linear", 2),
        (r"propagations\.\d\.mlp\.linears|^fc[12]\.", 1),
    ),
    model="point_bert",
    task="part_segmentation",
)


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

POINT_MAE_CLASSIFICATION = Layout(
    "Point-MAE, fine-tuned for classification",
    ("encoder.", "blocks.blocks.", "cls_head_finetune."),
    (*_encoder("", ""), ("cls_head_finetune.", "head.")),
    model="point_mae",
    absent=("prompt_cor",),  # of Point-PEFT, whose blocks hold more
)

_SEGMENTATION_HEAD = (
    ("label_conv.0.", "category.linear."),
    ("label_conv.1.", "category.norm."),
    ("convs*.", "fc*."),
    ("bns*.", "norm*."),
)

POINT_MAE_SEGMENTATION = Layout(
    "Point-MAE, fine-tuned for part segmentation",
    ("encoder.", "blocks.blocks.", "label_conv.", "propagation_0.", "convs3."),
    (
        *POINT_MAE_CLASSIFICATION.rules[:-1],
        ("propagation_0.mlp_convs.", "propagation.mlp.linears."),
        ("propagation_0.mlp_bns.", "propagation.mlp.norms."),
        *_SEGMENTATION_HEAD,
    ),
    (TOKENIZER_CONVOLUTIONS, (r"category\.linear|propagation\.mlp\.linears\.|^fc[123]\.", 1)),
    model="point_mae",
    task="part_segmentation",
)


PCP_MAE_PRETRAINED = replace(
    POINT_MAE_PRETRAINED,
    name="PCP-MAE, pre-trained",
    markers=("MAE_encoder.mask_pos_token", "MAE_decoder."),
    rules=(
        ("MAE_encoder.mask_pos_token", "mask_pos_token"),
        *POINT_MAE_PRETRAINED.rules,
        ("pred_pos_decoder.", "center_blocks."),
        ("pred_pos_proj.", "center_head."),
    ),
    model="pcp_mae",
)
PCP_MAE_CLASSIFICATION, PCP_MAE_SEGMENTATION = (
    replace(layout, name=layout.name.replace("Point-MAE", "PCP-MAE"), model="pcp_mae")
    for layout in (POINT_MAE_CLASSIFICATION, POINT_MAE_SEGMENTATION)
)
_CODED = {
    POINT_MAE_CLASSIFICATION.name: PCP_MAE_CLASSIFICATION,
    POINT_MAE_SEGMENTATION.name: PCP_MAE_SEGMENTATION,
}


def by_positions(layout: Layout, state: Mapping[str, Tensor]) -> Layout:
    """``layout``, or PCP-MAE's of the same names, if positions are embedded by codes of centers.

    Args:
        layout: by the names of the entries.
        state: the entries under their published names.
    """
    weight = state.get("pos_embed.0.weight")
    plain = weight is None or weight.shape[-1:] == (3,)
    return layout if plain else _CODED.get(layout.name, layout)


PUBLISHED_DEPTHS = (5, 5, 5)
"""Blocks per scale of every released file; a file shows its own."""


def block_places(depths: Sequence[int]) -> list[tuple[int, int]]:
    """Scale and number of every block: published ones are by scale, ours in one row."""
    return [(scale, block) for scale, depth in enumerate(depths) for block in range(depth)]


def _encoder_rules(depths: Sequence[int]) -> tuple[tuple[str, str], ...]:
    return (
        ("h_encoder.token_embed.*.", "backbone.tokenizers.*.embed."),
        ("h_encoder.encoder_pos_embeds.*.", "backbone.pos_embeds.*."),
        ("h_encoder.encoder_norms.*.", "backbone.norms.*."),
        *(
            (f"h_encoder.encoder_blocks.{scale}.blocks.{block}.", f"backbone.blocks.{place}.")
            for place, (scale, block) in enumerate(block_places(depths))
        ),
        ("h_encoder.", "backbone."),  # what is left of it is refused as an encoder's entry
    )


def point_m2ae_pretrained_layout(depths: Sequence[int] = PUBLISHED_DEPTHS) -> Layout:
    """Of pre-training, for an encoder with ``depths`` blocks per scale."""
    return Layout(
        "Point-M2AE, pre-trained",
        ("h_encoder.", "h_decoder.", "rec_head."),
        (
            *_encoder_rules(depths),
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
        fit=point_m2ae_pretrained_layout,
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
        (norm, *_encoder_rules(depths), ("cls_head_finetune.", "head.")),
        model="point_m2ae",
        sizes={"depths": tuple(depths)},
        fit=point_m2ae_classification_layout,
    )


def point_m2ae_segmentation_layout(depths: Sequence[int] = PUBLISHED_DEPTHS) -> Layout:
    """Of part segmentation, for an encoder with ``depths`` blocks per scale."""
    return Layout(
        "Point-M2AE or I2P-MAE, fine-tuned for part segmentation",
        ("h_encoder.", "label_conv.", "propagations.", "convs4."),
        (
            *_encoder_rules(depths),
            ("propagations.*.mlp_convs.", "propagations.*.mlp.linears."),
            ("propagations.*.mlp_bns.", "propagations.*.mlp.norms."),
            *_SEGMENTATION_HEAD,
        ),
        (
            TOKENIZER_CONVOLUTIONS,
            (r"^category\.linear|^propagations\.\d+\.mlp\.linears\.|^fc[1234]\.", 1),
        ),
        model="point_m2ae",
        task="part_segmentation",
        sizes={"depths": tuple(depths)},
        fit=point_m2ae_segmentation_layout,
    )


POINT_M2AE_PRETRAINED = point_m2ae_pretrained_layout()
POINT_M2AE_CLASSIFICATION = point_m2ae_classification_layout()
POINT_M2AE_SEGMENTATION = point_m2ae_segmentation_layout()


TEACHER = "clip_model."
"""Under which published pre-training keeps its image encoder, the text tower included."""

_MARKERS = ("h_encoder.", "h_decoder.", "rec_head_3d.", "rec_head_2d.")


def i2p_mae_pretrained_layout(
    depths: Sequence[int] = PUBLISHED_DEPTHS, with_teacher: bool = False
) -> Layout:
    """Of pre-training, for an encoder with ``depths`` blocks per scale.

    Fine-tuned files have the names and shapes of Point-M2AE's, see there.
    """
    encoder = point_m2ae_pretrained_layout(depths)
    return Layout(
        "I2P-MAE, pre-trained" + (", with its image teacher" if with_teacher else ""),
        (*_MARKERS, TEACHER) if with_teacher else _MARKERS,
        (*encoder.rules, ("rec_head_3d.", "rec_head."), ("rec_head_2d.", "feature_head.")),
        (*encoder.convolutions, (r"^feature_head\.", 1)),
        left={TEACHER: "the image teacher, which never changes and is loaded by teacher=PATH"},
        model="i2p_mae",
        task="pretraining",
        sizes=encoder.sizes,
        fit=lambda depths: i2p_mae_pretrained_layout(depths, with_teacher),
    )


I2P_MAE_PRETRAINED = i2p_mae_pretrained_layout()
I2P_MAE_PRETRAINED_WITH_TEACHER = i2p_mae_pretrained_layout(with_teacher=True)

BACKBONE_LAYOUTS = (
    POINT_BERT_TOKENIZER,
    POINT_BERT_PRETRAINED,
    POINT_BERT_CLASSIFICATION,
    POINT_BERT_SEGMENTATION,
    PCP_MAE_PRETRAINED,
    POINT_MAE_PRETRAINED,
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_SEGMENTATION,
    PCP_MAE_CLASSIFICATION,
    PCP_MAE_SEGMENTATION,
    POINT_M2AE_PRETRAINED,
    POINT_M2AE_CLASSIFICATION,
    POINT_M2AE_SEGMENTATION,
    I2P_MAE_PRETRAINED_WITH_TEACHER,
    I2P_MAE_PRETRAINED,
)
"""In the order in which they are tried: Point-BERT's and PCP-MAE's have all that Point-MAE's have,
and I2P-MAE's files may have a teacher beside all else. Fine-tuned, PCP-MAE has the names of
Point-MAE, see :func:`by_positions`, and I2P-MAE the names and shapes of Point-M2AE."""
