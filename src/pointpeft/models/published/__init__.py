"""Published checkpoint layouts, one file per backbone."""

from pointpeft.models.published.i2p_mae import (
    I2P_MAE_PRETRAINED,
    I2P_MAE_PRETRAINED_WITH_TEACHER,
)
from pointpeft.models.published.layout import Layout, recognise
from pointpeft.models.published.point_bert import (
    POINT_BERT_CLASSIFICATION,
    POINT_BERT_PRETRAINED,
    POINT_BERT_SEGMENTATION,
    POINT_BERT_TOKENIZER,
)
from pointpeft.models.published.point_m2ae import (
    POINT_M2AE_CLASSIFICATION,
    POINT_M2AE_PRETRAINED,
    POINT_M2AE_SEGMENTATION,
)
from pointpeft.models.published.point_mae import (
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_PRETRAINED,
    POINT_MAE_SEGMENTATION,
)

__all__ = [
    "I2P_MAE_PRETRAINED",
    "I2P_MAE_PRETRAINED_WITH_TEACHER",
    "LAYOUTS",
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
    "Layout",
    "recognise",
    "register_layout",
]

LAYOUTS = [
    POINT_BERT_TOKENIZER,
    POINT_BERT_PRETRAINED,
    POINT_BERT_CLASSIFICATION,
    POINT_BERT_SEGMENTATION,
    POINT_MAE_PRETRAINED,
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_SEGMENTATION,
    POINT_M2AE_PRETRAINED,
    POINT_M2AE_CLASSIFICATION,
    POINT_M2AE_SEGMENTATION,
    I2P_MAE_PRETRAINED_WITH_TEACHER,
    I2P_MAE_PRETRAINED,
]
"""In the order in which they are tried: Point-BERT's networks have all that Point-MAE's have, and
I2P-MAE's files may have a teacher beside all else. Fine-tuned, I2P-MAE has the names and shapes of
Point-M2AE."""


def register_layout(layout: Layout) -> None:
    """Have files of a further layout recognised, before all others.

    So tuning methods, of which models know nothing, make their checkpoints known.
    """
    LAYOUTS.insert(0, layout)
