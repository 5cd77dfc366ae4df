"""Write clouds with part labels as PLY files, which other programs and this one read."""

import colorsys
from pathlib import Path

import numpy as np

from pointpeft.files import replacing

__all__ = ["part_colors", "write_labelled_ply"]

_COORDINATES, _CHANNELS = ("x", "y", "z"), ("red", "green", "blue")
_PROPERTIES = (
    *((name, "<f8", "double") for name in _COORDINATES),
    *((name, "u1", "uchar") for name in _CHANNELS),
    ("part", "<i4", "int"),
)
"""Name, type in memory and name of the type, of what the file says of a point."""
_GOLDEN_RATIO = (1 + 5**0.5) / 2
_SATURATION, _BRIGHTNESS = 0.65, 0.9


def write_labelled_ply(path: str | Path, points: np.ndarray, seg: np.ndarray) -> None:
    """Write a cloud with a colour and an integer property `part` for every point.

    Args:
        path: The file, replaced only when the new one is complete.
        points: `(N, 3)`, written in double precision.
        seg: Part labels `(N,)`.
    """
    rows = np.empty(len(points), dtype=[(name, kind) for name, kind, _ in _PROPERTIES])
    for names, columns in ((_COORDINATES, points), (_CHANNELS, part_colors(seg))):
        for place, name in enumerate(names):
            rows[name] = columns[:, place]
    rows["part"] = seg
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *(f"property {kind} {name}" for name, _, kind in _PROPERTIES),
        "end_header",
    ]
    with replacing(path) as temporary:
        temporary.write_bytes(("\n".join(header) + "\n").encode() + rows.tobytes())


def part_colors(seg: np.ndarray) -> np.ndarray:
    """Colours `(N, 3)` uint8 of part labels `(N,)`, the same for a label wherever it occurs.

    Hues are steps of the golden ratio around the circle, so that near labels differ well.
    """
    labels, places = np.unique(seg, return_inverse=True)
    hues = labels / _GOLDEN_RATIO % 1
    table = [colorsys.hsv_to_rgb(hue, _SATURATION, _BRIGHTNESS) for hue in hues]
    return np.rint(255 * np.array(table)).astype(np.uint8)[places]
