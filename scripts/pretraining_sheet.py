"""Draw what pre-training sees of three shapes, for ``docs/``: a row for each of them.

The cloud, a view of an image encoder and its saliency there, which groups are hidden at each scale,
and what a run makes of them. A teacher is added to a run without one for the picture.

pointpeft pretrain --data homeobjects --model point_m2ae_small --output runs/seen --epochs 16 \
    trainer.batch_size=16 pretraining.distillation=0.1 svm.source=homeobjects svm.every=1
python scripts/pretraining_sheet.py runs/seen docs/visualize.png
"""

import argparse

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

import pointpeft as pp
from pointpeft.measure.pretraining_panels import KINDS, Panel
from pointpeft.measure.pretraining_view import PretrainingView, see
from pointpeft.training.visualizing import load_pretrained, view_config

TILE, HEAD, MARGIN = 150, 18, 4
CLASSES = ("chair", "table", "lamp")
TEACHER = ("pretraining.distillation=1", "pretraining.teacher=efficientnet-lite0")
COLORS = np.array([[66, 105, 208], [224, 138, 30], [214, 65, 74], [74, 166, 160]])
SEEN_BY_ALL = (31, 111, 139)
assert len(COLORS) == len(KINDS)


def points_tile(panel: Panel) -> Image.Image:
    """Points from the front, above and aside; nearer ones over farther ones."""
    yaw, pitch = np.radians(35), np.radians(20)
    x, y, z = panel.points.double().numpy().T
    across, depth = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    up = y * np.cos(pitch) - depth * np.sin(pitch)
    depth = y * np.sin(pitch) + depth * np.cos(pitch)
    colors = np.tile(SEEN_BY_ALL, (len(x), 1)) if panel.kinds is None else COLORS[panel.kinds]
    picture = Image.new("RGB", (TILE, TILE), "white")
    draw = ImageDraw.Draw(picture)
    for place in np.argsort(depth):
        column, row = (across[place] + 1.05) / 2.1 * TILE, (1.05 - up[place]) / 2.1 * TILE
        draw.ellipse((column - 1, row - 1, column + 1, row + 1), fill=tuple(colors[place].tolist()))
    return picture


def image_tile(image: Tensor) -> Image.Image:
    """Brightness in [0, 1], with a white margin; a cell of the image is a square."""
    values = (255 * image.clamp(0, 1)).round().byte().numpy()
    side = TILE - 2 * MARGIN
    inner = Image.fromarray(values).resize((side, side), Image.Resampling.NEAREST)
    return ImageOps.expand(inner.convert("RGB"), MARGIN, "white")


def saliency_tile(saliency: Tensor, highest: float) -> Image.Image:
    """The darker, the more salient."""
    return image_tile(1 - saliency / highest)


def row(view: PretrainingView) -> list[tuple[str, Image.Image]]:
    """The tiles of a shape, under their titles."""
    highest = max(float(each.saliency.max()) for each in view.views)
    tiles = [("the cloud", points_tile(view.panels[0]))]
    tiles.append(("a view", image_tile(view.views[0].image)))
    tiles.append(("its saliency", saliency_tile(view.views[0].saliency, highest)))
    return tiles + [(panel.title.lower(), points_tile(panel)) for panel in view.panels[1:]]


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("output")
    arguments = parser.parse_args()
    model, trained, _ = load_pretrained(view_config(arguments.run, TEACHER))
    data, rows = pp.load_shapes("homeobjects"), []
    for name in CLASSES:
        of_class = np.flatnonzero(data.test.labels == data.class_names.index(name))
        points = torch.from_numpy(data.test.points[of_class[0]])[: model.core.spec.num_points]
        rows.append(row(see(model, points, trained)))
    sheet = Image.new("RGB", (len(rows[0]) * TILE, len(rows) * TILE + HEAD), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, (title, _) in enumerate(rows[0]):
        draw.text((column * TILE + 6, 3), title, "black", font)
    for number, tiles in enumerate(rows):
        for column, (_, tile) in enumerate(tiles):
            sheet.paste(tile, (column * TILE, number * TILE + HEAD))
    sheet.quantize(64).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
