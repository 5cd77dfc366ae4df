"""Rolling bearings for ``make_mechparts.py``: the catalogue, and the dimension series of ISO 15.

The library has few sizes of each bearing. Boundary dimensions of more are in ISO 15 and ISO 355;
their rings take the proportions of the catalogue's bearing that is most alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bd_warehouse import bearing
from mechparts_catalogue import SLOW, USUAL, Part, parts

BORES = (10, 12, 15, 17, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80)
# Outer diameters and widths in mm, of the bores in their order.
OUTER = {
    "18": (19, 21, 24, 26, 32, 37, 42, 47, 52, 58, 65, 72, 78, 85, 90, 95, 100),
    "19": (22, 24, 28, 30, 37, 42, 47, 55, 62, 68, 72, 80, 85, 90, 100, 105, 110),
    "10": (26, 28, 32, 35, 42, 47, 55, 62, 68, 75, 80, 90, 95, 100, 110, 115, 125),
    "02": (30, 32, 35, 40, 47, 52, 62, 72, 80, 85, 90, 100, 110, 120, 125, 130, 140),
    "03": (35, 37, 42, 47, 52, 62, 72, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170),
}
WIDTH = {
    "18": (5, 5, 5, 5, 7, 7, 7, 7, 7, 7, 7, 9, 10, 10, 10, 10, 10),
    "19": (6, 6, 7, 7, 9, 9, 9, 10, 12, 12, 12, 13, 13, 13, 16, 16, 16),
    "10": (8, 8, 9, 10, 12, 12, 13, 14, 15, 16, 16, 18, 18, 18, 20, 20, 22),
    "02": (9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26),
    "03": (11, 12, 13, 14, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39),
}
TAPERED = {
    "302": "20x47x15.25 25x52x16.25 30x62x17.25 35x72x18.25 40x80x19.75 45x85x20.75 50x90x21.75 "
    "55x100x22.75 60x110x23.75",
    "303": "20x52x16.25 25x62x18.25 30x72x20.75 35x80x22.75 40x90x25.25 45x100x27.25 "
    "50x110x29.25 55x120x31.5 60x130x33.5",
    "320": "25x47x15 30x55x17 35x62x18 40x68x19 45x75x20 50x80x20 55x90x23 60x95x23",
    "322": "25x52x19.25 30x62x21.25 35x72x24.25 40x80x24.75 45x85x24.75 50x90x24.75 "
    "55x100x26.75 60x110x29.75",
    "323": "25x62x25.25 30x72x28.75 35x80x32.75 40x90x35.25 45x100x38.25 50x110x42.25",
}
SIDES = {
    "train": ("02", "19", "302", "320"),
    "val": ("18", "323"),
    "test": ("10", "03", "303", "322"),
}
KINDS: dict[str, Any] = {
    "ball_bearing": bearing.SingleRowDeepGrooveBallBearing,
    "sealed_ball_bearing": bearing.SingleRowCappedDeepGrooveBallBearing,
    "angular_contact_bearing": bearing.SingleRowAngularContactBallBearing,
    "cylindrical_roller_bearing": bearing.SingleRowCylindricalRollerBearing,
    "tapered_roller_bearing": bearing.SingleRowTaperedRollerBearing,
}
SLOW_KINDS = ("angular_contact_bearing",)
DIAMETERS = ("d1", "d2", "D1", "D2", "FE", "da", "db", "Damin", "Damax", "Dbmin")
WIDTHS, RADII = ("B", "C", "T", "a"), ("r12", "r34")
FACTORS = ("e",)  # without a unit

Row = dict[str, float]


def bearing_parts() -> list[Part]:
    """Bearings of the dimension series and the other sizes of the catalogue."""
    found: list[Part] = []
    for name, kind in KINDS.items():
        catalogue = {size: _numbers(row) for size, row in kind.bearing_data.items()}
        catalogue = {size: row for size, row in catalogue.items() if "D" in row}
        tapered = name.startswith("tapered")
        width = "T" if tapered else "B"
        dealt = []
        for series, sizes in (_tapered() if tapered else _straight()).items():
            split = next(split for split, names in SIDES.items() if series in names)
            for size in sizes:
                text = _add(kind, catalogue, size, width)
                dealt.append((split, series, text))
        listed = {size for _, _, size in dealt}
        side = "train" if tapered else "val"  # the library has many sizes of tapered ones
        dealt += [(side, "catalogue", size) for size in catalogue if size not in listed]
        found += parts(name, dealt, _maker(kind), SLOW if name in SLOW_KINDS else USUAL)
    return found


def _maker(kind: Any) -> Callable[[str, str], Any]:
    return lambda _, size: kind(size)


def _straight() -> dict[str, list[tuple[float, float, float]]]:
    return {series: list(zip(BORES, OUTER[series], WIDTH[series], strict=True)) for series in OUTER}


def _tapered() -> dict[str, list[tuple[float, ...]]]:
    return {
        series: [tuple(map(float, size.split("x"))) for size in sizes.split()]
        for series, sizes in TAPERED.items()
    }


def _numbers(row: dict[str, str]) -> Row:
    """The dimensions of a row in the library's table that are numbers."""
    found: Row = {}
    for key, text in row.items():
        maker, _, name = key.partition(":")
        if maker == "SKT":
            try:
                found[name] = float(text)
            except ValueError:
                continue
    return found


def _add(kind: Any, catalogue: dict[str, Row], size: tuple[float, ...], width: str) -> str:
    """Put a size into the library's table unless it is there; return how it is called there."""
    text = "M" + "-".join(f"{value:g}" for value in size)
    if text not in catalogue:
        bore, outer, wide = size
        shape = np.array([bore / outer, wide / outer])
        rows = list(catalogue.values())
        gaps = [np.linalg.norm([r["d"] / r["D"], r[width] / r["D"]] - shape) for r in rows]
        like = rows[int(np.argmin(gaps))]
        row = {"d": bore, "D": outer}
        for name in (name for name in DIAMETERS if name in like):
            share = (like[name] - like["d"]) / (like["D"] - like["d"])
            row[name] = bore + share * (outer - bore)
        row |= {name: like[name] * wide / like[width] for name in WIDTHS if name in like}
        row |= {name: like[name] * outer / like["D"] for name in RADII if name in like}
        row |= {name: like[name] for name in FACTORS if name in like}
        kind.bearing_data[text] = {f"SKT:{name}": f"{value:.2f}" for name, value in row.items()}
    return text
