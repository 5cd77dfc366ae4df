"""All layouts of published checkpoints."""

from pointpeft.compat.checkpoints.i2p_mae_layout import (
    I2P_MAE_PRETRAINED,
    I2P_MAE_PRETRAINED_WITH_TEACHER,
)
from pointpeft.compat.checkpoints.point_bert_layout import (
    POINT_BERT_CLASSIFICATION,
    POINT_BERT_PRETRAINED,
    POINT_BERT_SEGMENTATION,
    POINT_BERT_TOKENIZER,
)
from pointpeft.compat.checkpoints.point_m2ae_layout import (
    POINT_M2AE_CLASSIFICATION,
    POINT_M2AE_PRETRAINED,
    POINT_M2AE_SEGMENTATION,
)
from pointpeft.compat.checkpoints.point_mae_layout import (
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_PRETRAINED,
    POINT_MAE_SEGMENTATION,
)
from pointpeft.compat.checkpoints.point_peft_layout import POINT_PEFT_M2AE, POINT_PEFT_MAE

__all__ = ["LAYOUTS"]

LAYOUTS = (
    POINT_PEFT_M2AE,
    POINT_PEFT_MAE,
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
)
"""In the order in which they are tried: tuned networks have all that plain ones have, Point-BERT's
all that Point-MAE's have, and I2P-MAE's files may have a teacher beside all else. Fine-tuned,
I2P-MAE has the names and shapes of Point-M2AE."""
