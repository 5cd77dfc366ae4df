"""How strongly teachers guide the mask of I2P-MAE, on the shapes that come with the package.

Visible groups are drawn with probabilities softmax(saliency). The table has the largest of them
over the smallest, and the number of groups that an even draw would have to be of to have the same
entropy; means over shapes. Nothing is trained: the groups are those of the published encoder.

    python benchmarks/mask_guidance.py --output benchmarks/results/mask_guidance.json
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import pointpeft as pp
from pointpeft.data import embedded
from pointpeft.files import write_json
from pointpeft.measure.pretraining_panels import mask_guidance
from pointpeft.measure.records import versions
from pointpeft.vision import load_teacher

TEACHERS = (("random", 224), ("efficientnet-lite0", 224), ("efficientnet-lite0", 128))
VIEWS = ("depth", "shaded")
BATCH = 8


def saliencies(teacher: str, size: int, views: str, shapes: Tensor) -> Iterator[Tensor]:
    """Of the coarsest groups, ``(B, 64)``, batch by batch."""
    model = pp.create_model(
        "i2p_mae", task="pretraining", views=views, teacher="random", teacher_image_size=size
    )
    model.teacher = load_teacher(teacher, size)
    model.eval()
    for points in shapes.split(BATCH):
        centers = model.backbone.group(points)[-1].centers
        with torch.no_grad():
            yield model.saliency(model.look(points), centers)


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--teacher", action="append", default=[], help="one more: name or folder")
    parser.add_argument("--shapes", type=int, default=64, help="drawn at random, seed 0")
    arguments = parser.parse_args()
    stored = torch.tensor(embedded.load_homeobjects().points)
    chosen = torch.randperm(len(stored), generator=torch.Generator().manual_seed(0))
    shapes, rows = stored[chosen[: arguments.shapes]].float(), []
    for teacher, size in (*TEACHERS, *((name, 224) for name in arguments.teacher)):
        for views in VIEWS:
            saliency = torch.cat(list(saliencies(teacher, size, views, shapes)))
            found = mask_guidance(saliency)
            rows.append(
                {
                    "teacher": teacher,
                    "image_size": size,
                    "views": views,
                    "saliency": [float(saliency.min()), float(saliency.max())],
                    **found._asdict(),
                }
            )
            print(rows[-1], flush=True)
    if arguments.output:
        content = {"shapes": len(shapes), "groups": 64, "rows": rows, "versions": versions()}
        write_json(arguments.output, content)


if __name__ == "__main__":
    main()
