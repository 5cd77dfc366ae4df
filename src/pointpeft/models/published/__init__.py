"""Published checkpoint layouts, one file per backbone."""

from pointpeft.models.published.layout import Layout, recognise
from pointpeft.models.published.point_mae import (
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_PRETRAINED,
    POINT_MAE_SEGMENTATION,
)

__all__ = [
    "LAYOUTS",
    "POINT_MAE_CLASSIFICATION",
    "POINT_MAE_PRETRAINED",
    "POINT_MAE_SEGMENTATION",
    "Layout",
    "recognise",
]

LAYOUTS = (POINT_MAE_PRETRAINED, POINT_MAE_CLASSIFICATION, POINT_MAE_SEGMENTATION)
"""In the order in which they are tried."""
