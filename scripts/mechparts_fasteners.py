"""Screws, nuts, inserts and washers for ``make_mechparts.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bd_warehouse import fastener
from mechparts_catalogue import (
    FAST,
    SLOW,
    THREADS,
    USUAL,
    Dealt,
    Part,
    by_standard,
    deal,
    diameter,
    parts,
    product,
    standard_of,
    with_lengths,
)

# Class, class of bd_warehouse, standards to train on, standards to test on. A single standard is
# cut by size.
SCREWS: tuple[tuple[str, Any, Sequence[str], Sequence[str]], ...] = (
    ("hex_bolt", fastener.HexHeadScrew, ("iso4014",), ()),
    ("flanged_hex_bolt", fastener.HexHeadWithFlangeScrew, ("din1662",), ("din1665",)),
    ("socket_head_cap_screw", fastener.SocketHeadCapScrew, ("iso4762",), ("asme_b18.3",)),
    ("button_head_screw", fastener.ButtonHeadScrew, ("iso7380_1",), ()),
    ("flanged_button_head_screw", fastener.ButtonHeadWithCollarScrew, ("iso7380_2",), ()),
    ("cheese_head_screw", fastener.CheeseHeadScrew, ("iso1207", "iso14580"), ("iso7048",)),
    (
        "countersunk_screw",
        fastener.CounterSunkScrew,
        ("iso2009", "iso7046", "iso14581"),
        ("iso10642", "iso14582"),
    ),
    (
        "raised_countersunk_screw",
        fastener.RaisedCounterSunkOvalHeadScrew,
        ("iso2010", "iso14584"),
        ("iso7047",),
    ),
    ("pan_head_screw", fastener.PanHeadScrew, ("iso1580", "iso14583"), ("asme_b_18.6.3",)),
    ("collar_pan_head_screw", fastener.PanHeadWithCollarScrew, ("din967",), ()),
    ("rounded_cheese_head_screw", fastener.RaisedCheeseHeadScrew, ("iso7045",), ()),
    ("set_screw", fastener.SetScrew, ("iso4026",), ()),
    ("shoulder_screw", fastener.ShoulderScrew, ("iso7379",), ()),
)
SHOULDERS = (10, 12, 16, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100, 120)  # ISO 7379, in mm
PACE = {
    "hex_bolt": FAST,
    "set_screw": FAST,
    "shoulder_screw": FAST,
    "collar_pan_head_screw": SLOW,
    "rounded_cheese_head_screw": SLOW,
}
NUTS: tuple[tuple[str, dict[str, Any], Sequence[str], Sequence[str]], ...] = (
    ("hex_nut", {"iso4032": fastener.HexNut, "iso4033": fastener.HexNut}, ["iso4032"], ["iso4033"]),
    (
        "thin_hex_nut",
        {"iso4035": fastener.HexNut, "iso4036": fastener.UnchamferedHexagonNut},
        ["iso4035"],
        ["iso4036"],
    ),
    ("flanged_hex_nut", {"din1665": fastener.HexNutWithFlange}, ["din1665"], []),
    ("domed_cap_nut", {"din1587": fastener.DomedCapNut}, ["din1587"], []),
)
WASHERS: tuple[tuple[str, dict[str, Any], Sequence[str], Sequence[str]], ...] = (
    (
        "plain_washer",
        {
            "iso7089": fastener.PlainWasher,
            "iso7091": fastener.PlainWasher,
            "iso7092": fastener.CheeseHeadWasher,
            "iso7093": fastener.PlainWasher,
            "iso7094": fastener.PlainWasher,
        },
        ["iso7089", "iso7093"],
        ["iso7091", "iso7092", "iso7094"],
    ),
)
INSERTS = ("AE-SamZhihui", "Hilitchi", "CNCKitchen", "McMaster-Carr", "ruthex")  # by maker


def fastener_parts() -> list[Part]:
    """Screws of all lengths; nuts with their thread cut and not; inserts; washers."""
    found: list[Part] = []
    for name, kind, train, test in SCREWS:
        dealt = _deal(kind.sizes, train, test)
        with_them = _shoulder_lengths(dealt) if name == "shoulder_screw" else with_lengths(dealt)
        found += parts(name, with_them, _screw_maker(kind), PACE.get(name, USUAL))
    for name, kinds, train, test in NUTS:
        dealt = _deal(lambda standard, kinds=kinds: kinds[standard].sizes(standard), train, test)
        found += parts(name, product(dealt, THREADS), _nut_maker(kinds))
    for name, kinds, train, test in WASHERS:
        dealt = _deal(lambda standard, kinds=kinds: kinds[standard].sizes(standard), train, test)
        found += parts(name, dealt, _washer_maker(kinds), FAST)
    return [*found, *_tooth_washers(), *_inserts()]


def _deal(sizes_of: Any, train: Sequence[str], test: Sequence[str]) -> Any:
    if test:
        return by_standard(sizes_of, train, test)
    return deal(train[0], sizes_of(train[0]))


def _shoulder_lengths(dealt: Dealt) -> Dealt:
    return [
        (split, series, (size, float(length)))
        for split, series, size in dealt
        for length in SHOULDERS
        if length >= 2 * diameter(size)
    ]


def _screw_maker(kind: Any) -> Any:
    return lambda series, size: kind(size[0], size[1], standard_of(series))


def _nut_maker(kinds: dict[str, Any]) -> Any:
    def make(series: str, size: tuple[str, str]) -> Any:
        standard, (name, thread) = standard_of(series), size
        hand = "left" if thread == "left-hand" else "right"
        return kinds[standard](name, standard, hand=hand, simple=thread == THREADS[0])

    return make


def _washer_maker(kinds: dict[str, Any]) -> Any:
    return lambda series, size: kinds[standard_of(series)](size, standard_of(series))


def _tooth_washers() -> list[Part]:
    """One standard to train on, the small and the large sizes of the other to validate and test."""
    kind = fastener.InternalToothLockWasher
    dealt = deal("asme_b18.21.1", kind.sizes("asme_b18.21.1"), (1, 0, 0))
    dealt += deal("din6797", kind.sizes("din6797"), (0, 0.2, 0.8))
    return parts(
        "internal_tooth_washer", dealt, lambda series, size: kind(size, standard_of(series)), SLOW
    )


def _insert(maker: str, size: str) -> Any:
    return fastener.HeatSetNut(size, maker)


def _inserts() -> list[Part]:
    sizes_of = fastener.HeatSetNut.sizes
    dealt = [("train", INSERTS[0], size) for size in sizes_of(INSERTS[0])]
    dealt += [("val", INSERTS[1], size) for size in sizes_of(INSERTS[1])]
    dealt += [("test", maker, size) for maker in INSERTS[2:] for size in sizes_of(maker)]
    return parts("heat_set_insert", dealt, _insert, SLOW)
