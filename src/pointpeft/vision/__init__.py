"""Clouds seen as images: projection, frozen image encoders, and what they say about points."""

from pointpeft.vision.back_projection import back_project, sample_bicubic
from pointpeft.vision.loading import load_teacher
from pointpeft.vision.projection import (
    NUM_VIEWS,
    Raster,
    draw,
    fit_raster,
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
