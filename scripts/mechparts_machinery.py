"""Rings, keys, gears, sprockets and other machine elements for ``make_mechparts.py``."""

from __future__ import annotations

from functools import partial
from typing import Any

from bd_warehouse import bushing, gear, o_rings, open_builds, retaining_ring, shaft_key, sprocket
from build123d import Cylinder, Pos
from mechparts_catalogue import (
    FAST,
    RATIOS,
    SLOW,
    Dealt,
    Part,
    deal,
    parts,
    product,
    standard_of,
    with_lengths,
)

O_RINGS = {
    "train": ("0", "1", "4"),
    "val": ("3",),
    "test": ("2",),
}  # first digit: the cross section
TEETH = {
    "train": ((12, 17), (24, 31), (41, 52)),
    "val": ((53, 60),),
    "test": ((18, 23), (32, 40)),
}
HELIX_ANGLES = (12, 20, 30, -20)  # degrees; negative ones are left-hand
BORES = (0.0, 0.25, 0.4)  # in root diameters
# ISO 606: pitch, roller diameter and tooth width in mm.
CHAINS = {
    "05B": (8.0, 5.0, 2.8),
    "06B": (9.525, 6.35, 5.3),
    "08B": (12.7, 8.51, 7.2),
    "10B": (15.875, 10.16, 9.1),
    "12B": (19.05, 12.07, 11.1),
    "16B": (25.4, 15.88, 16.2),
    "20B": (31.75, 19.05, 18.5),
}
CHAIN_SIDES = {"train": ("06B", "10B", "16B"), "val": ("20B",), "test": ("05B", "08B", "12B")}
WORM_QUOTIENTS = {"train": (8, 10, 14), "val": (18,), "test": (9, 12)}  # diameter in modules
RAILS = {"train": ("20x20", "20x60"), "val": ("20x80",), "test": ("20x40", "40x40")}


def machinery_parts() -> list[Part]:
    """Everything that is neither fastener nor bearing nor piping."""
    return [*_rings(), *_keys(), *_gears(), *_sprockets(), *_open_builds(), *_bushings()]


def _sided(sides: dict[str, Any], label: str) -> Dealt:
    return [(split, f"{label} {name}", name) for split, names in sides.items() for name in names]


def _rings() -> list[Part]:
    dealt = [
        (split, f"iso3601 {digit}xx", size)
        for split, digits in O_RINGS.items()
        for digit in digits
        for size in o_rings.ORing.sizes()
        if size.startswith(digit)
    ]
    found = parts("o_ring", dealt, lambda _, size: o_rings.ORing(size), FAST)
    for name, kind, standard in (
        ("external_retaining_ring", retaining_ring.ExternalSnapRing, "din471"),
        ("internal_retaining_ring", retaining_ring.InternalSnapRing, "din472"),
    ):
        dealt = deal(standard, kind.sizes())
        found += parts(name, dealt, partial(_of_size, kind), FAST)
    return found


def _of_size(kind: Any, _: str, size: str) -> Any:
    return kind(size)


def _keys() -> list[Part]:
    """One shaft diameter for every cross section, with lengths of 2 to 10 widths."""
    width = {size: shaft_key.ShaftKey.parameters(size)["b"] for size in shaft_key.ShaftKey.sizes()}
    sections = list({width[size]: size for size in width}.values())
    found: list[Part] = []
    for form, name in (("A", "round_ended_key"), ("B", "square_ended_key")):
        dealt = with_lengths(deal("din6885 shaft", sections), lambda size: 1.5 * width[size])
        found += parts(name, dealt, partial(_key, form), FAST)
    return found


def _key(form: Any, _: str, size: tuple[int, float]) -> Any:
    return shaft_key.ShaftKey(*size, form)


def _gears() -> list[Part]:
    """Gears of module 1, since a module is no more than a scale."""
    teeth: Dealt = [
        (split, f"{low} to {high} teeth", count)
        for split, bands in TEETH.items()
        for low, high in bands
        for count in range(low, high + 1)
    ]
    widths = {"spur_gear": (5.0, 9.0, 14.0), "helical_gear": (7.0, 12.0)}
    found = parts("spur_gear", product(teeth, widths["spur_gear"], BORES), _spur)
    helical = product(teeth, widths["helical_gear"], HELIX_ANGLES, BORES[1:])
    found += parts("helical_gear", helical, _helical, SLOW)
    rack = product(teeth, (5.0, 10.0), (1.5, 3.0))
    found += parts("gear_rack", rack, _rack, FAST)
    worms = product(_sided(WORM_QUOTIENTS, "quotient"), (1, 2, 3, 4), (1.2, 1.6, 2.0, 2.6, 3.4))
    return found + parts("worm", worms, _worm, FAST)


def _spur(_: str, size: tuple[int, float, float]) -> Any:
    teeth, width, bore = size
    return _bored(gear.SpurGear(1, teeth, 20, width), bore * (teeth - 2.5), width)


def _helical(_: str, size: tuple[int, float, int, float]) -> Any:
    teeth, width, angle, bore = size
    return _bored(gear.HelicalGear(1, teeth, 20, angle, width), bore * (teeth - 2.5), width)


def _bored(blank: Any, diameter: float, width: float) -> Any:
    if not diameter:
        return blank
    return blank - Pos(*blank.bounding_box().center()) * Cylinder(diameter / 2, 3 * width)


def _rack(_: str, size: tuple[int, float, float]) -> Any:
    teeth, width, height = size
    return gear.RackGear(1, teeth, 20, width, base_height=height)


def _worm(_: str, size: tuple[int, int, float]) -> Any:
    quotient, starts, length = size
    return gear.Worm(1, starts, quotient, length * quotient)


def _sprockets() -> list[Part]:
    """Plate sprockets with a bore, some with a circle of bolt holes."""
    teeth = {"train": range(11, 46, 2), "val": range(12, 46, 4), "test": range(12, 46, 2)}
    dealt = [
        (split, f"iso606 {chain}", (count, bolts))
        for split, chains in CHAIN_SIDES.items()
        for place, count in enumerate(teeth[split])
        for chain in chains
        for bolts in (0, 4 + 2 * (place % 2))[: 1 + (count > 17)]
    ]
    return parts("sprocket", dealt, _sprocket)


def _sprocket(series: str, size: tuple[int, int]) -> Any:
    (teeth, bolts), (pitch, roller, width) = size, CHAINS[series.split()[1]]
    radius = sprocket.Sprocket.sprocket_pitch_radius(teeth, pitch)
    return sprocket.Sprocket(
        teeth, pitch, roller, 0.0, width,
        bolt_circle_diameter=1.1 * radius if bolts else 0.0,
        num_mount_bolts=bolts,
        mount_bolt_diameter=0.2 * radius if bolts else 0.0,
        bore_diameter=0.55 * radius,
    )  # fmt: skip


def _open_builds() -> list[Part]:
    """Aluminium profiles and stepper motors of many lengths."""
    lengths = {"20x20": 20.0, "20x40": 40.0, "20x60": 60.0, "20x80": 80.0, "40x40": 40.0}
    dealt: Dealt = [
        (split, series, (rail, round(float(factor) * lengths[rail] * scale)))
        for split, series, rail in _sided(RAILS, "rail")
        for factor in RATIOS[split]
        for scale in (0.55, 0.8, 1.0)
    ]
    found = parts("aluminium_profile", dealt, lambda _, size: open_builds.VSlotLinearRail(*size))
    motors = deal("Nema17", [float(length) for length in range(24, 84, 2)], (0.8, 0.2))
    motors += [("test", "Nema23", float(length)) for length in range(36, 120, 3)]
    return found + parts("stepper_motor", motors, _motor, SLOW)


def _motor(series: str, length: float) -> Any:
    return open_builds.StepperMotor(standard_of(series), length)


def _bushings() -> list[Part]:
    """Hexagonal eccentric bushings: body diameters, each with its own bores."""
    bodies = {"train": (7, 8, 10), "val": (9,), "test": (7.5, 12)}
    dealt = product(
        _sided(bodies, "body"), (0.5, 0.65), (0.4, 0.8, 1.3, 2.0), (0.25, 0.5), (1.2, 1.5)
    )
    return parts("eccentric_bushing", dealt, _bushing, FAST)


def _bushing(_: str, size: tuple[float, float, float, float, float]) -> Any:
    body, bore, length, flange, hexagon = size
    eccentricity = 0.6 * (1 - bore) * body / 2
    return bushing.HexFlangedEccentricBushing(
        bore * body, body, length * body, flange * body, hexagon * body, eccentricity
    )
