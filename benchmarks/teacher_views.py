"""CPU seconds that the shaded views of a mesh take, drawn by its faces and by its points as splats.

Faces are drawn from all that the file holds, splats from 2,048 and from 4,096 points. Reading is
not part of it. Medians over the shapes; every view is drawn three times and the fastest counts.

    python benchmarks/teacher_views.py my_meshes --size 128 --views 4
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from pointpeft.data import InputTransform, load_unlabelled
from pointpeft.vision import Mesh, make_views

POINTS = (2048, 4096)
REPEATS = 3


def seconds(draw: Callable[[], object]) -> float:
    """Of the fastest of some runs."""
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        draw()
        taken.append(time.process_time() - started)
    return min(taken)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of meshes")
    parser.add_argument("--size", type=int, default=128, help="of an image in pixels")
    parser.add_argument("--views", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    views = make_views("shaded", arguments.views)
    shapes = load_unlabelled(arguments.folder, InputTransform(max(POINTS)), val_fraction=0.0)
    if not any(shapes.meshes):
        parser.error(f"folder {arguments.folder} holds no meshes")
    rows = []
    for cloud, file in zip(torch.from_numpy(shapes.points), shapes.meshes, strict=True):
        if file is None:
            continue
        mesh, row = Mesh(*map(torch.from_numpy, file.read())), {}
        row["faces"] = seconds(lambda: views.show(cloud[None], arguments.size, [mesh]))  # noqa: B023
        for count in POINTS:
            few = cloud[None, :count]
            row[f"{count} points"] = seconds(lambda: views.show(few, arguments.size))  # noqa: B023
        rows.append((len(mesh.faces), row))
    counts = sorted(count for count, _ in rows)
    print(f"{len(rows)} meshes of {counts[0]:,} to {counts[-1]:,} faces, median {median(counts):,}")
    for name in rows[0][1]:
        taken = [row[name] for _, row in rows]
        print(f"{name}: median {median(taken):.3f} s, most {max(taken):.3f} s")


if __name__ == "__main__":
    main()
