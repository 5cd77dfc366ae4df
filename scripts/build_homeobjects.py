"""Build the embedded data set ``homeobjects`` from the furniture libraries of Sweet Home 3D.

The Debian package ``sweethome3d-furniture`` holds some 820 models of everyday things under
CC BY 3.0 and CC0. This program samples their surfaces, gives the models of the classes in
``homeobjects_classes.py`` a label, finds near-duplicates, divides the labelled shapes into
train, val and test, and writes ``homeobjects.npz`` and ``ATTRIBUTION.md``. The same package
gives the same bytes. It needs NumPy and SciPy, and apt and dpkg unless told where the files are.

    python scripts/build_homeobjects.py                          # downloads the package
    python scripts/build_homeobjects.py --deb FILE.deb
    python scripts/build_homeobjects.py --furniture /usr/share/sweethome3d/furniture

The program imports nothing of ``pointpeft``, so that the data do not change with the library.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from homeobjects_attribution import attribution
from homeobjects_catalogue import LIBRARIES, Model, read_library
from homeobjects_classes import CLASS_NAMES, class_of, series_of
from homeobjects_geometry import (
    FloatArray,
    IntArray,
    connected_groups,
    farthest_point_order,
    near_pairs,
    sample_surface,
    unit_ball,
)
from numpy.typing import NDArray

PACKAGE = "sweethome3d-furniture"
OUTPUT = Path(__file__).parents[1] / "src" / "pointpeft" / "data" / "homeobjects"

SEED = 20140101
NUM_CANDIDATES = 8192  # area-weighted surface points, from which the stored ones are chosen
NUM_POINTS = 1024
COORDINATE_STEPS = 32767  # int16 steps between the centre and the unit sphere

# Near-duplicates, in half sides of the bounding box after each side is stretched to 2, under the
# 8 upright turns and reflections. Two samples of one surface are about 0.05 apart.
NUM_PROBES = 128
MOMENT_TOLERANCE = 0.08
DUPLICATE_LIMIT = 0.07
SAME_LIBRARY_LIMIT = 0.085  # for two models of one library and one class (or none)

PARTS = ("train", "val", "test")
SHARES = (0.60, 0.15, 0.25)
LEAST = (8, 3, 4)  # shapes of every class in every part
NUM_DEALS = 500


@dataclass(frozen=True)
class Shapes:
    """The sampled models and what is known of them; all sequences have length S."""

    models: tuple[Model, ...]
    points: NDArray[np.int16]
    """(S, 1024, 3), coordinates in the unit ball times `COORDINATE_STEPS`."""
    labels: IntArray

    def select(self, keep: Sequence[int]) -> Shapes:
        """Return the shapes with the given indices."""
        models = tuple(self.models[i] for i in keep)
        return Shapes(models, self.points[list(keep)], self.labels[list(keep)])


def main() -> None:
    """Read the command line and build the data set."""
    args = _parse_arguments()
    with tempfile.TemporaryDirectory() as work:
        furniture = args.furniture or unpack(args.deb or download(Path(work)), Path(work))
        shapes, refused = sample_libraries(furniture)
    pairs = find_duplicates(shapes)
    groups = group_variants(shapes, pairs)
    split = split_groups(shapes.labels, groups)
    keep = [i for i, part in enumerate(split) if part != "dropped"]
    dropped = [shapes.models[i] for i, part in enumerate(split) if part == "dropped"]
    shapes, groups, split = shapes.select(keep), groups[keep], split[keep]
    groups = np.unique(groups, return_inverse=True)[1]
    args.output.mkdir(parents=True, exist_ok=True)
    write_npz(args.output / "homeobjects.npz", arrays(shapes, groups, split))
    page = attribution(shapes.models, NUM_POINTS, refused)
    (args.output / "ATTRIBUTION.md").write_text(page, encoding="utf-8")
    print(summary(shapes, groups, split))
    print(f"left out as near-duplicates of val or test shapes: {len(dropped)}")
    print(f"left out for their licence: {', '.join(m.id for m in refused) or 'none'}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--deb", type=Path, help=f"the file of the Debian package {PACKAGE}")
    source.add_argument("--furniture", type=Path, help="folder with the .sh3f libraries")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder to write to")
    return parser.parse_args()


def download(folder: Path) -> Path:
    """Download the Debian package into `folder` and return the path of its file."""
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
    return next(folder.glob(f"{PACKAGE}_*.deb"))


def unpack(deb: Path, folder: Path) -> Path:
    """Unpack a Debian package into `folder` and return the path of its libraries."""
    subprocess.run(["dpkg", "-x", str(deb), str(folder / "package")], check=True)
    return folder / "package" / "usr" / "share" / "sweethome3d" / "furniture"


def sample_libraries(furniture: Path) -> tuple[Shapes, list[Model]]:
    """Sample every model of all libraries; the second result is refused for its licence."""
    models = [model for library in LIBRARIES for model in read_library(furniture, library)]
    refused = [model for model in models if model.licence is None]
    accepted = tuple(model for model in models if model.licence is not None)
    points = np.stack([sample_model(model) for model in accepted])
    labels = np.array([class_of(m.id, m.title, m.category) for m in accepted])
    return Shapes(accepted, points, labels), refused


def sample_model(model: Model) -> NDArray[np.int16]:
    """Sample one model: even surface points in farthest-point order, in the unit ball.

    The random numbers depend on the id of the model alone, so models can come and go.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(model.id.encode())])
    candidates = sample_surface(model.mesh, NUM_CANDIDATES, rng)
    chosen = candidates[farthest_point_order(candidates, NUM_POINTS)]
    # Rounding towards zero keeps every point inside the ball.
    return np.trunc(unit_ball(chosen) * COORDINATE_STEPS).astype(np.int16)


def find_duplicates(shapes: Shapes) -> list[tuple[int, int]]:
    """Return the pairs of shapes that count as near-duplicates by their geometry."""
    clouds: list[FloatArray] = list(shapes.points / COORDINATE_STEPS)
    found = near_pairs(clouds, NUM_PROBES, SAME_LIBRARY_LIMIT, MOMENT_TOLERANCE)
    libraries = [model.id.partition("#")[0] for model in shapes.models]
    return [
        (i, j)
        for i, j, distance in found
        if distance <= DUPLICATE_LIMIT
        or (libraries[i] == libraries[j] and shapes.labels[i] == shapes.labels[j])
    ]


def group_variants(shapes: Shapes, pairs: Sequence[tuple[int, int]]) -> IntArray:
    """Number the groups of shapes joined by near-duplicate pairs or by a series of variants."""
    series: dict[int, list[int]] = defaultdict(list)
    for i, model in enumerate(shapes.models):
        for number in series_of(model.id):
            series[number].append(i)
    variants = [(members[0], other) for members in series.values() for other in members[1:]]
    return connected_groups(len(shapes.models), [*pairs, *variants])


def split_groups(labels: IntArray, groups: IntArray) -> NDArray[np.str_]:
    """Assign every shape to a part; a group stays together, so that no variant is seen twice.

    The best of `NUM_DEALS` random deals counts. Unlabelled shapes whose group lies in val or test
    are "dropped".

    Returns:
        "train", "val", "test", "unlabelled" or "dropped" for every shape, shape (S,).

    Raises:
        RuntimeError: If a class has fewer than `LEAST` shapes in some part.
    """
    counts = _class_counts(labels, groups)
    targets = _part_sizes(counts.sum(axis=0))
    rng = np.random.default_rng(SEED)
    deals = [_deal(counts, targets, rng) for _ in range(NUM_DEALS)]
    filled = [np.stack([counts[deal == part].sum(axis=0) for part in range(3)]) for deal in deals]
    # A shape too few against `LEAST` weighs more than any deviation from the wanted sizes.
    misses = [100 * np.maximum(np.array(LEAST)[:, None] - sizes, 0).sum() for sizes in filled]
    best = int(np.argmin([m + _deviation(f, targets) for m, f in zip(misses, filled, strict=True)]))
    if misses[best]:
        short = (filled[best] < np.array(LEAST)[:, None]).any(axis=0)
        names = ", ".join(CLASS_NAMES[c] for c in np.flatnonzero(short))
        raise RuntimeError(f"too few shapes in some part for: {names}")
    parts = np.array([*PARTS, "unlabelled"])[deals[best][groups]]
    held_out = np.isin(parts, PARTS[1:])
    return np.where(labels >= 0, parts, np.where(held_out, "dropped", "unlabelled"))


def _part_sizes(class_sizes: IntArray) -> IntArray:
    """Return the wanted number of shapes of every class in every part, shape (parts, classes)."""
    val, test = (
        np.maximum(np.rint(share * class_sizes), least).astype(np.int64)
        for share, least in zip(SHARES[1:], LEAST[1:], strict=True)
    )
    return np.stack([class_sizes - val - test, val, test])


def _deal(counts: IntArray, targets: IntArray, rng: np.random.Generator) -> IntArray:
    """Deal out groups, the largest first, each to the part where its classes lack most.

    Args:
        counts: (groups, classes) shapes.
        targets: (parts, classes) shapes.
        rng: settles the order among groups of one size.

    Returns:
        The part of every group, -1 for groups without labelled shapes.
    """
    lack = targets.astype(np.float64)
    deal = np.full(len(counts), -1)
    for group in sorted(rng.permutation(len(counts)), key=lambda g: -counts[g].sum()):
        if counts[group].any():
            part = int(np.argmax((lack / targets) @ counts[group]))
            deal[group] = part
            lack[part] -= counts[group]
    return deal


def _deviation(filled: IntArray, targets: IntArray) -> float:
    """Sum the squared relative differences between the sizes of a deal and the wanted ones."""
    return float(np.square((filled - targets) / targets).sum())


def _class_counts(labels: IntArray, groups: IntArray) -> IntArray:
    """Count the shapes of every class in every group, shape (groups, classes)."""
    counts = np.zeros((groups.max() + 1, len(CLASS_NAMES)), dtype=np.int64)
    np.add.at(counts, (groups[labels >= 0], labels[labels >= 0]), 1)
    return counts


def arrays(shapes: Shapes, groups: IntArray, split: NDArray[np.str_]) -> dict[str, NDArray]:
    """Return the arrays of the file by name."""
    models = shapes.models
    return {
        "points": shapes.points,
        "scale": np.array(1 / COORDINATE_STEPS, dtype=np.float32),
        "label": shapes.labels.astype(np.int16),
        "names": np.array(CLASS_NAMES),
        "split": split,
        "group": groups.astype(np.int32),
        "duplicate_limit": np.array([DUPLICATE_LIMIT, SAME_LIBRARY_LIMIT], dtype=np.float32),
        "id": np.array([model.id for model in models]),
        "title": np.array([model.title for model in models]),
        "author": np.array([model.author for model in models]),
        "licence": np.array([str(model.licence) for model in models]),
        "source": np.array([model.source for model in models]),
    }


def write_npz(path: Path, content: dict[str, NDArray]) -> None:
    """Write a compressed npz file whose bytes depend on nothing but the arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in content.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, buffer.getvalue(), compresslevel=9)


def summary(shapes: Shapes, groups: IntArray, split: NDArray[np.str_]) -> str:
    """Describe the classes, parts and groups in a table."""
    lines = [f"{'class':18} {'shapes':>6} {'groups':>6} " + " ".join(f"{p:>5}" for p in PARTS)]
    for number, name in enumerate(CLASS_NAMES):
        members = shapes.labels == number
        counts = Counter(split[members].tolist())
        lines.append(
            f"{name:18} {members.sum():6} {len(set(groups[members].tolist())):6} "
            + " ".join(f"{counts[part]:5}" for part in PARTS)
        )
    totals = Counter(split.tolist())
    lines.append(", ".join(f"{part}: {totals[part]}" for part in (*PARTS, "unlabelled")))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
