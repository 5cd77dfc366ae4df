"""Data in: read shapes of any kind, prepare them for a model, split, cache and augment them."""

from pointpeft.data.parts import PartTable
from pointpeft.data.prepare import InputTransform
from pointpeft.data.prepared_items import Problem
from pointpeft.data.reading import SHAPE_SUFFIXES, RawShape, read_shape
from pointpeft.data.shape_data import ShapeData, ShapeSplit, UnlabelledShapes
from pointpeft.data.shapes import load_shapes, load_unlabelled
from pointpeft.data.statistics import InputStatistics
from pointpeft.data.triangles import sample_surface

__all__ = [
    "SHAPE_SUFFIXES",
    "InputStatistics",
    "InputTransform",
    "PartTable",
    "Problem",
    "RawShape",
    "ShapeData",
    "ShapeSplit",
    "UnlabelledShapes",
    "load_shapes",
    "load_unlabelled",
    "read_shape",
    "sample_surface",
]
