"""Clouds seen as images: projection, frozen image encoders, and what they say about points."""

from pointpeft.vision.faces import Mesh, draw_faces, orbit_mesh
from pointpeft.vision.projection import (
    NUM_VIEWS,
    Raster,
    back_project,
    draw,
    fit_raster,
    sample_bicubic,
    scale_gray,
    to_images,
    unscale_gray,
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
from pointpeft.vision.teacher_loading import load_teacher
from pointpeft.vision.views import DepthSums, ShadedViews, Views, make_views

__all__ = [
    "NUM_VIEWS",
    "ClipTeacher",
    "ConvolutionalTeacher",
    "DepthSums",
    "Mesh",
    "RandomTeacher",
    "Raster",
    "Seen",
    "ShadedViews",
    "Teacher",
    "TransformersTeacher",
    "Views",
    "back_project",
    "draw",
    "draw_faces",
    "fit_raster",
    "load_teacher",
    "make_views",
    "orbit_mesh",
    "sample_bicubic",
    "scale_gray",
    "to_images",
    "unscale_gray",
    "view_clouds",
]
