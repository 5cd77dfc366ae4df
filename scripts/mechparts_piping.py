"""Flanges, pipes and bends for ``make_mechparts.py``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib import resources
from typing import Any, get_args

import bd_warehouse
from bd_warehouse import flange, pipe
from build123d import Edge
from mechparts_catalogue import FAST, USUAL, Part, deal, parts, product

FLANGES: dict[str, Any] = {
    "blind_flange": flange.BlindFlange,
    "lap_joint_flange": flange.LappedFlange,
    "slip_on_flange": flange.SlipOnFlange,
    "socket_weld_flange": flange.SocketWeldFlange,
    "weld_neck_flange": flange.WeldNeckFlange,
}
LARGEST = {"socket_weld_flange": "3", "weld_neck_flange": "12"}  # that the standard has whole
FACES = ("Raised", "Flat", "Ring")

# Wall thicknesses: material and schedule, of those that the library can make.
SCHEDULES = {
    "train": ("stainless 5S", "stainless 40S", "copper M"),
    "val": ("stainless 10S",),
    "test": ("stainless 80S", "copper K"),
}
PIPE_LENGTHS = (1.5, 2.0, 3.0, 5.0, 8.0)  # in outer diameters
STUB_LENGTHS = (0.7, 1.0, 1.4, 2.0)
BENDS = {"pipe_elbow": (45, 60, 90), "return_bend": (180,)}  # angles in degrees
BEND_RADII = (1.0, 1.5, 2.0, 3.0)  # of the centre line, in nominal diameters
INCH = 25.4


def piping_parts() -> list[Part]:
    """Flanges by pressure class; pipes, stub ends and bends by schedule."""
    found: list[Part] = []
    for name, kind in FLANGES.items():
        most = FAST if name == "blind_flange" else USUAL
        found += parts(name, _flange_sizes(name), _flange_maker(kind), most)
    dealt = _pipe_sizes()
    found += parts("pipe", product(dealt, PIPE_LENGTHS), _pipe, FAST)
    stubs = [row for row in dealt if _has_faces(150, row[2])]
    found += parts("stub_end", product(stubs, STUB_LENGTHS), _stub, FAST)
    for name, angles in BENDS.items():
        found += parts(name, product(dealt, angles, BEND_RADII), _bend, FAST)
    return found


def _flange_sizes(name: str) -> list[tuple[str, str, Any]]:
    """Class 150 and the small sizes of class 300 to train on, the large ones to test."""
    dealt = []
    for number, shares in ((150, (1, 0, 0)), (300, (0.2, 0.15, 0.65))):
        sizes = [size for size in get_args(flange.Nps) if _has_faces(number, size)]
        if name in LARGEST:
            sizes = sizes[: sizes.index(LARGEST[name]) + 1]
        dealt += deal(f"class {number}", sizes, shares)
    return dealt if _lapped(name) else product(dealt, FACES)


def _has_faces(number: int, size: str) -> bool:
    """Whether the library has a size whole."""
    tables = (f"flange_data_class_{number}", f"ring_joint_facings_class_{number}")
    return all(size in getattr(flange, table) for table in tables)


def _lapped(name: str) -> bool:
    return name == "lap_joint_flange"


def _flange_maker(kind: Any) -> Callable[[str, Any], Any]:
    def make(series: str, size: Any) -> Any:
        number = int(series.split()[1])
        return kind(size, number) if isinstance(size, str) else kind(size[0], number, size[1])

    return make


def _pipe_sizes() -> list[tuple[str, str, Any]]:
    """Nominal sizes of every schedule, as the library's table has them."""
    text = resources.files(bd_warehouse).joinpath("pipe.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if row["nps"] in get_args(pipe.Nps)]
    return [
        (split, schedule, row["nps"])
        for split, schedules in SCHEDULES.items()
        for schedule in schedules
        for row in rows
        if f"{row['material']} {row['identifier']}" == schedule
    ]


def _outer_diameter(size: str, schedule: str) -> float:
    """In mm."""
    return 2 * pipe.PipeSection(size, *schedule.split()).bounding_box().size.X / 2


def _pipe(schedule: str, size: tuple[str, float]) -> Any:
    length = size[1] * _outer_diameter(size[0], schedule)
    return pipe.Pipe(size[0], *schedule.split(), path=Edge.make_line((0, 0, 0), (0, 0, length)))


def _stub(schedule: str, size: tuple[str, float]) -> Any:
    length = size[1] * _outer_diameter(size[0], schedule)
    return flange.LappedFlangeStub(size[0], *schedule.split(), length)


def _bend(schedule: str, size: tuple[str, int, float]) -> Any:
    name, angle, factor = size
    radius = max(factor, 0.75) * _outer_diameter(name, schedule)
    path = Edge.make_circle(radius, start_angle=0, end_angle=angle)
    return pipe.Pipe(name, *schedule.split(), path=path)
