"""A contact sheet: small pictures of shapes in rows, on a page without scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointpeft.files import replacing

__all__ = ["SheetRow", "Tile", "write_sheet"]

_SIZE = 400
"""Units that a picture is wide and high."""
_POINTS = 512
_SHADES = 6
_FAINTEST = 0.3
_EYE = np.array([0.8, 0.62, 1.33])
"""From where shapes are seen, y up; as in the report."""


@dataclass(frozen=True)
class Tile:
    """One shape.

    Attributes:
        title: what it is called.
        lines: said below it, in small letters.
        shape: points ``(N, 3)``, y up, in farthest-point order; or why there are none.
        own: whether the row is about this shape.
    """

    title: str
    lines: tuple[str, ...]
    shape: NDArray[np.float32] | str
    own: bool = False


@dataclass(frozen=True)
class SheetRow:
    """Shapes beside each other, below a heading."""

    heading: str
    tiles: Sequence[Tile]


def write_sheet(path: str | Path, title: str, note: str, rows: Sequence[SheetRow]) -> None:
    """Write a page that needs no other file, no network and no scripts.

    Args:
        path: the page.
        title: its heading.
        note: what a reader should know.
        rows: from top to bottom.
    """
    from jinja2 import Environment  # slow to import, and only pages need it

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    shown = [
        {"heading": row.heading, "tiles": [(tile, _picture(tile.shape)) for tile in row.tiles]}
        for row in rows
    ]
    page = environment.from_string(_part("sheet.html")).render(
        title=title, note=note, rows=shown, size=_SIZE, style=_part("report.css")
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _picture(shape: NDArray[np.float32] | str) -> list[tuple[str, float]]:
    """Dots as paths, from the farthest and faintest to the nearest; none without points."""
    if isinstance(shape, str):
        return []
    points = shape[:_POINTS].astype(np.float64)
    ahead = _EYE / np.linalg.norm(_EYE)
    right = np.cross([0.0, 1.0, 0.0], ahead)
    right /= np.linalg.norm(right)
    seen = points @ np.stack([right, np.cross(ahead, right), ahead], axis=1)
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    reach = float((high - low).max()) or 1.0
    places = (seen[:, :2] - (low + high) / 2) * [1, -1] * 0.9 * _SIZE / reach + _SIZE / 2
    order = np.argsort(seen[:, 2], kind="stable")
    strengths = np.linspace(_FAINTEST, 1, _SHADES).round(2).tolist()
    return [
        ("".join(f"M{x} {y}h0" for x, y in places[band].round().astype(int).tolist()), strength)
        for band, strength in zip(np.array_split(order, _SHADES), strengths, strict=True)
    ]


def _part(name: str) -> str:
    return files("pointpeft.measure.report").joinpath(name).read_text(encoding="utf-8")
