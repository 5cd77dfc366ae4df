"""Random programs: each draws a way of putting parts together, and the parts, from ``rng``.

A program returns named parts in one frame, y up; size and place are settled later.
"""

from collections.abc import Callable

from numpy.random import Generator

from pointpeft.data.procedural.programs._shared import Part
from pointpeft.data.procedural.programs.buildings import building
from pointpeft.data.procedural.programs.compositions import composition, growth
from pointpeft.data.procedural.programs.furniture import cabinet, panel, seat, table
from pointpeft.data.procedural.programs.organisms import creature, plant
from pointpeft.data.procedural.programs.repetitions import array, radial
from pointpeft.data.procedural.programs.stems import stand, tool
from pointpeft.data.procedural.programs.vehicles import vehicle, winged
from pointpeft.data.procedural.programs.vessels import turned
from pointpeft.data.procedural.programs.wireframes import wireframe

__all__ = ["PROGRAMS", "Part"]

# Their order is part of the stream: a shape's program is drawn by its place here.
PROGRAMS: dict[str, Callable[[Generator], list[Part]]] = {
    program.__name__: program
    for program in (
        composition, growth, turned, table, seat, cabinet, stand, vehicle, winged, creature,
        radial, plant, array, wireframe, tool, panel, building,
    )
}  # fmt: skip
"""Programs by name."""
