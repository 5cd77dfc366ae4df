"""Layouts of published Point-BERT checkpoints."""

from pointpeft.models.layout import TOKENIZER_CONVOLUTIONS, Layout

__all__ = [
    "POINT_BERT_CLASSIFICATION",
    "POINT_BERT_PRETRAINED",
    "POINT_BERT_SEGMENTATION",
    "POINT_BERT_TOKENIZER",
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
"""The discrete variational autoencoder alone."""

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
"""Encoder and classification head."""

POINT_BERT_SEGMENTATION = Layout(
    "Point-BERT, fine-tuned for part segmentation",
    ("encoder.", "reduce_dim.", "propagation_2.", "dgcnn_pro_1."),
    (
        *_encoder("", ""),
        *((f"propagation_{i}.mlp_convs.", f"propagations.{i}.mlp.linears.") for i in range(3)),
        *((f"propagation_{i}.mlp_bns.", f"propagations.{i}.mlp.norms.") for i in range(3)),
        *(
            (f"dgcnn_pro_{i + 1}.layer{k}.{n}.", f"graphs.{i}.{edge}.{part}.")
            for i in range(2)
            for k, edge in ((1, "across"), (2, "within"))
            for n, part in ((0, "linear"), (1, "norm"))
        ),
        ("conv1.", "fc1."),
        ("bn1.", "norm1."),
        ("conv2.", "fc2."),
    ),
    (
        TOKENIZER_CONVOLUTIONS,
        (r"graphs\.\d\.(across|within)\.linear", 2),
        (r"propagations\.\d\.mlp\.linears|^fc[12]\.", 1),
    ),
    model="point_bert",
    task="part_segmentation",
)
"""Encoder and part-segmentation head."""
