"""What ``make_mechparts.py`` does with sampled parts: near-duplicates, distances, the file.

A Chamfer distance here is the mean distance from the points of one cloud to the nearest of the
other, averaged over both directions, in radii of the unit ball.
"""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from homeobjects_geometry import FloatArray, IntArray
from mechparts_catalogue import Part
from numpy.typing import NDArray
from scipy.spatial import cKDTree

OUTPUT = Path(__file__).parents[1] / "src" / "pointpeft" / "data" / "mechparts"
COORDINATE_STEPS = 400  # between the centre and the unit sphere
# A shape is a near-duplicate of another if their distance is below this many times the distance
# of two samples of its own surface.
DUPLICATE_LIMIT = 1.03
NUM_PROBES, NUM_CANDIDATES = 96, 2


def unit_balls(samples: FloatArray) -> FloatArray:
    """Samples `(S, 2, N, 3)` around the mean of the first, whose largest norm becomes 1."""
    centred = samples - samples[:, :1].mean(axis=2, keepdims=True)
    radius = np.linalg.norm(centred[:, :1], axis=3).max(axis=2)
    return centred / radius[:, :, None, None]


class Distances:
    """Chamfer distances between shapes of one class."""

    def __init__(self, parts: Sequence[Part], samples: FloatArray) -> None:
        clouds = unit_balls(samples.astype(np.float64))
        self.parts, self.clouds = parts, clouds[:, 0]
        self.trees = [cKDTree(cloud) for cloud in self.clouds]
        again = [cKDTree(cloud) for cloud in clouds[:, 1]]
        self.floor = np.array(
            [
                (_mean_gap(tree, second) + _mean_gap(other, first)) / 2
                for tree, other, (first, second) in zip(self.trees, again, clouds, strict=True)
            ]
        )
        """(S,), the distance of two samples of the same surface."""

    def between(self, i: int, j: int, count: int | None = None) -> float:
        """The distance of two shapes, from all or so many points of each."""
        there = _mean_gap(self.trees[j], self.clouds[i][:count])
        return (there + _mean_gap(self.trees[i], self.clouds[j][:count])) / 2

    def nearest(self, split: str, to: Sequence[str]) -> dict[int, float]:
        """For every shape of a part of the split, the distance to the nearest other one of some.

        A few points of each cloud tell which shapes may be the nearest.
        """
        found: dict[int, float] = {}
        places = _by_class(self.parts)
        for i, part in enumerate(self.parts):
            if part.split == split:
                others = [
                    j for j in places[part.class_name] if j != i and self.parts[j].split in to
                ]
                near = sorted(others, key=partial(self.between, i, count=NUM_PROBES))
                near = near[:NUM_CANDIDATES]
                found[i] = min((self.between(i, j) for j in near), default=np.inf)
        return found


def _mean_gap(tree: cKDTree, points: FloatArray) -> float:
    return float(np.mean(tree.query(points)[0]))


def chosen(parts: Sequence[Part], distances: Distances) -> tuple[IntArray, dict[str, FloatArray]]:
    """Leave out near-duplicates of training shapes among the others, and of test ones in val.

    Returns:
        The places of the shapes that stay, and the distances to the nearest shape by what was
        compared, as multiples of the distance of two samples of one surface.
    """
    found = {
        "test to train": distances.nearest("test", ["train"]),
        "val to train or test": distances.nearest("val", ["train", "test"]),
        "train to train": distances.nearest("train", ["train"]),
    }
    ratios = {
        name: {i: distance / distances.floor[i] for i, distance in of_split.items()}
        for name, of_split in found.items()
    }
    out = {
        i
        for name in ("test to train", "val to train or test")
        for i, ratio in ratios[name].items()
        if ratio < DUPLICATE_LIMIT
    }
    kept = np.array([i for i in range(len(parts)) if i not in out])
    left = {
        name: np.array([ratio for i, ratio in of_split.items() if i not in out])
        for name, of_split in ratios.items()
    }
    return kept, left


def distance_table(ratios: dict[str, FloatArray], floor: FloatArray) -> str:
    """The distances to the nearest shape in quantiles."""
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    lines = [f"{'nearest, in floors':22}" + "".join(f"{share:>8.0%}" for share in shares)]
    for name, values in ratios.items():
        quantiles = np.quantile(values[np.isfinite(values)], shares)
        lines.append(f"{name:22}" + "".join(f"{value:8.2f}" for value in quantiles))
    lines.append(f"floor, two samples of one surface: {np.median(floor):.4f} (median)")
    return "\n".join(lines)


def write_parts(path: Path, parts: Sequence[Part], samples: FloatArray) -> None:
    """Write the clouds and what is known of them; the bytes depend on nothing else."""
    names = list(dict.fromkeys(part.class_name for part in parts))
    content = {
        "steps": np.stack([stored_steps(cloud) for cloud in unit_balls(samples)[:, 0]]),
        "scale": np.array(1 / COORDINATE_STEPS, dtype=np.float32),
        "label": np.array([names.index(part.class_name) for part in parts], dtype=np.int16),
        "names": np.array([name.replace("_", " ") for name in names]),
        "split": np.array([part.split for part in parts]),
        "series": np.array([part.series for part in parts]),
        "size": np.array([part.size for part in parts]),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in content.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            archive.writestr(member, buffer.getvalue())


def stored_steps(cloud: FloatArray) -> NDArray[np.int16]:
    """Points `(N, 3)` as steps `(3, N)` along a short path, which pack well."""
    # Rounding towards zero keeps every point inside the ball.
    grid = np.trunc(cloud * COORDINATE_STEPS).astype(np.int64)
    order, left = np.empty(len(grid), dtype=np.int64), np.ones(len(grid), dtype=bool)
    place = 0
    for i in range(len(grid)):
        order[i], left[place] = place, False
        gaps = np.abs(grid - grid[place]).sum(axis=1)
        place = int(np.argmin(np.where(left, gaps, np.iinfo(np.int64).max)))
    return np.diff(grid[order], axis=0, prepend=0).T.astype(np.int16)


def write_attribution(path: Path, parts: Sequence[Part]) -> None:
    """Write where the shapes come from, and the series of every class and part of the split."""
    series: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for part in parts:
        series[part.class_name][part.split][part.series] = None
    rows = [
        f"| {name.replace('_', ' ')} | "
        + " | ".join("; ".join(of[s]) for s in ("train", "val", "test"))
        + " |"
        for name, of in series.items()
    ]
    path.write_text(ATTRIBUTION + "\n".join(rows) + "\n", encoding="utf-8")


def _by_class(parts: Sequence[Part]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, part in enumerate(parts):
        places[part.class_name].append(place)
    return places


ATTRIBUTION = """# Attribution for mechparts

The point clouds in `mechparts.npz` are sampled from parts that were made with
[bd-warehouse](https://github.com/gumyr/bd_warehouse) 0.4.0, © Gumyr and contributors, under the
Apache License 2.0, and its CAD library build123d, under the same licence. No code or model file of
either is included. The clouds are under the Apache License 2.0 too, whose text is the file
`LICENSE` of this package. Nobody named here endorses this data set or its use.

The names of standards say which dimensions a part has. The standards themselves belong to their
publishers, and are not included. The data are no proof that a part conforms to one.

## Changes

2,048 points were drawn from the surface of every part, uniformly by area, turned so that the axis
of the part is y, centred, scaled to the unit ball and rounded to 1/400. Threads of screws are left
out; nuts have them cut or not. Bearings of ISO 15 and ISO 355 sizes that the library lacks take the
proportions of the most similar one that it has. The file is written by `scripts/make_mechparts.py`.

## Series

| class | train | val | test |
| --- | --- | --- | --- |
"""
