"""Layouts of published I2P-MAE checkpoints: Point-M2AE's names, with two heads for one."""

from collections.abc import Sequence


from pointpeft.compat.checkpoints.point_m2ae_layout import PUBLISHED_DEPTHS, encoder_depths, point_m2ae_pretrained_layout
from pointpeft.models.layout import Layout

__all__ = [
    "I2P_MAE_PRETRAINED",
    "I2P_MAE_PRETRAINED_WITH_TEACHER",
    "TEACHER",
    "i2p_mae_pretrained_layout",
]

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
        fit=lambda names: i2p_mae_pretrained_layout(encoder_depths(names), with_teacher),
    )


I2P_MAE_PRETRAINED = i2p_mae_pretrained_layout()
"""Encoder, decoder and both heads of pre-training at the published depth."""
I2P_MAE_PRETRAINED_WITH_TEACHER = i2p_mae_pretrained_layout(with_teacher=True)
"""The same with the image teacher beside them, which is left."""
