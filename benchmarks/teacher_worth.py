"""What an image encoder's views tell of shapes: ridge regression on its frozen features.

Each shape is shown as a pre-training run with `pretraining.distillation` shows it, but of faces
only points. The regression takes the mean over the views, which such a run learns, or all views
side by side; its strength is chosen by cross-validation on the training split.

    python benchmarks/teacher_worth.py --data mechparts --points 2048 --points 1200
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pointpeft.data import InputTransform, ShapeSplit, load_shapes
from pointpeft.files import write_json
from pointpeft.formats import percent
from pointpeft.measure.records import versions
from pointpeft.vision import Teacher, load_teacher, make_views
from pointpeft.vision.views import Views

STRENGTHS = np.logspace(-1, 5, 13)
RESULTS = Path(__file__).parent / "results/teacher_worth-cpu.json"


@torch.no_grad()
def look(teacher: Teacher, views: Views, split: ShapeSplit) -> NDArray:
    """Features of each shape and view, pooled over pixels, ``(S, V, D)``."""
    found = []
    for points in torch.from_numpy(split.points).split(8):
        images = views.show(points.float(), teacher.image_size)
        with torch.autocast("cpu", torch.bfloat16):
            pooled = teacher(images).features.float().mean(dim=(2, 3))
        found.append(pooled.unflatten(0, (views.count, -1)).transpose(0, 1))  # view by view
    return torch.cat(found).numpy()


def mean(seen: NDArray) -> NDArray:
    """``(S, V, D) -> (S, D)``."""
    return seen.mean(axis=1)


def side_by_side(seen: NDArray) -> NDArray:
    """``(S, V, D) -> (S, V D)``."""
    return seen.reshape(len(seen), -1)


def accuracy(train: NDArray, test: NDArray, data: ShapeSplit, held_out: ShapeSplit) -> float:
    """Of the test shapes that the regression gets right."""
    rule = make_pipeline(StandardScaler(), RidgeClassifierCV(STRENGTHS))
    return float(rule.fit(train, data.labels).score(test, held_out.labels))


def main() -> None:
    """Measure, and write the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="labelled shapes")
    parser.add_argument("--points", action="append", type=int, required=True, help="of a cloud")
    parser.add_argument("--teacher", default="efficientnet-lite0")
    parser.add_argument("--size", type=int, default=128, help="of an image in pixels")
    parser.add_argument("--views", default="shaded", choices=("shaded", "depth"))
    args = parser.parse_args()
    teacher, views, rows = load_teacher(args.teacher, args.size), make_views(args.views), []
    for source in args.data:
        for count in args.points:
            data = load_shapes(source, InputTransform(count), num_stored=count, val_fraction=0.0)
            train, test = (look(teacher, views, part) for part in (data.train, data.test))
            means, sides = (
                accuracy(pool(train), pool(test), data.train, data.test)
                for pool in (mean, side_by_side)
            )
            rows.append({
                "data": Path(source).stem, "points": count, "train": len(data.train),
                "test": len(data.test), "mean": means, "side by side": sides,
            })  # fmt: skip
            print(f"{source}, {count} points: mean {percent(means)}, beside {percent(sides)}")
    asked = {name: getattr(args, name) for name in ("teacher", "size", "views")}
    write_json(RESULTS, {**asked, "rows": rows, "versions": versions()})


if __name__ == "__main__":
    main()
