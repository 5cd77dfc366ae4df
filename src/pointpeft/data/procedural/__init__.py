"""Shapes from random programs: an endless, seeded supply of unlabelled clouds with part labels."""

from pointpeft.data.procedural.generator import (
    PROGRAMS,
    ProceduralShape,
    procedural_clouds,
    procedural_shape,
)

__all__ = ["PROGRAMS", "ProceduralShape", "procedural_clouds", "procedural_shape"]
