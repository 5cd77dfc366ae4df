"""Clouds seen as images: projection, frozen image encoders, and what they say about points."""

from pointpeft.vision.loading import load_teacher
from pointpeft.vision.projection import (
    NUM_VIEWS,
    Raster,
    back_project,
    draw,
    fit_raster,
    sample_bicubic,
    to_images,
    view_clouds,
)
from pointpeft.vision.teacher import (
    ClipTeacher,
    ConvolutionalTeacher,
    RandomTeacher,
    Seen,
    Teacher,
    TransformersTeacher,
)

__all__ = [
    "NUM_VIEWS",
    "ClipTeacher",
    "ConvolutionalTeacher",
    "RandomTeacher",
    "Raster",
    "Seen",
    "Teacher",
    "TransformersTeacher",
    "back_project",
    "draw",
    "fit_raster",
    "load_teacher",
    "sample_bicubic",
    "to_images",
    "view_clouds",
]
