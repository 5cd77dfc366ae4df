"""Draw the contact sheet of procedural shapes in ``docs/``: a row for every program.

python scripts/procedural_sheet.py docs/procedural.png
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw

from pointpeft.data.procedural import PROGRAMS, procedural_shape

TILE, COLUMNS, POINTS = 110, 12, 4096
COLORS = np.array(
    [[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75]]
)


def tile(points: np.ndarray, seg: np.ndarray) -> np.ndarray:
    """One shape from the front, above and aside, nearer points over farther ones, brighter."""
    yaw, pitch = np.radians(35), np.radians(25)
    x = points[:, 0] * np.cos(yaw) + points[:, 2] * np.sin(yaw)
    depth = points[:, 2] * np.cos(yaw) - points[:, 0] * np.sin(yaw)
    y = points[:, 1] * np.cos(pitch) - depth * np.sin(pitch)
    depth = points[:, 1] * np.sin(pitch) + depth * np.cos(pitch)
    image = np.full((TILE, TILE, 3), 255, np.uint8)
    order = np.argsort(depth)
    column = ((x[order] + 1.05) / 2.1 * (TILE - 1)).astype(int)
    row = ((1.05 - y[order]) / 2.1 * (TILE - 1)).astype(int)
    shade = 0.55 + 0.45 * (depth[order, None] + 1) / 2
    image[row, column] = COLORS[seg[order] % len(COLORS)] * shade
    return image


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    output = parser.parse_args().output
    label = 90
    sheet = Image.new("RGB", (label + COLUMNS * TILE, len(PROGRAMS) * TILE), "white")
    draw = ImageDraw.Draw(sheet)
    for row, program in enumerate(PROGRAMS):
        draw.text((6, row * TILE + TILE // 2 - 6), program, fill="black")
        for column in range(COLUMNS):
            shape = procedural_shape(column, num_points=POINTS, program=program)
            picture = Image.fromarray(tile(shape.points, shape.seg))
            sheet.paste(picture, (label + column * TILE, row * TILE))
    sheet.quantize(64).save(output, optimize=True)


if __name__ == "__main__":
    main()
