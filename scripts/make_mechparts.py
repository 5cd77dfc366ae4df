"""Build the embedded data set ``mechparts``: standard mechanical parts from ``bd-warehouse``.

The parts are made by a CAD library (bd-warehouse 0.4.0, Apache-2.0), which nothing else here needs:
install it into an environment of its own. A part takes about half a second; what is sampled is kept
in a folder, so that a build which was stopped goes on. The same versions give the same bytes.

    python3.11 -m venv cad && cad/bin/pip install bd-warehouse==0.4.0
    cad/bin/python scripts/make_mechparts.py --cache mechparts_cache

The program imports nothing of ``pointpeft``, so that the data do not change with the library.
"""

from __future__ import annotations

import argparse
import hashlib
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from homeobjects_geometry import FloatArray, Mesh, sample_surface
from mechparts_bearings import bearing_parts
from mechparts_catalogue import SPLITS, Part
from mechparts_fasteners import fastener_parts
from mechparts_machinery import machinery_parts
from mechparts_piping import piping_parts
from mechparts_writing import (
    OUTPUT,
    Distances,
    chosen,
    distance_table,
    write_attribution,
    write_parts,
)

SEED = 20260101
NUM_POINTS = 2048
TOLERANCE = 0.0015  # of the triangles, in diagonals of the part
ANGULAR_TOLERANCE = 0.35  # radians between neighbouring triangles


def main() -> None:
    """Read the command line, sample what is not in the cache, and write the data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of sampled parts")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder to write to")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    catalogue = [*fastener_parts(), *bearing_parts(), *piping_parts(), *machinery_parts()]
    unique = {part.id: part for part in catalogue}
    parts, samples, failed = sample_all(list(unique.values()), args.cache)
    distances = Distances(parts, samples)
    kept, ratios = chosen(parts, distances)
    duplicates = len(parts) - len(kept)
    parts, samples = [parts[i] for i in kept], samples[kept]
    args.output.mkdir(parents=True, exist_ok=True)
    write_parts(args.output / "mechparts.npz", parts, samples)
    write_attribution(args.output / "ATTRIBUTION.md", parts)
    print(summary(parts))
    print(
        f"not possible: {len(failed)} parts of the catalogue; left out as near-duplicates of other "
        f"series: {duplicates}"
    )
    print(distance_table(ratios, distances.floor))


def sample_all(catalogue: list[Part], cache: Path) -> tuple[list[Part], FloatArray, list[Part]]:
    """Two samples `(S, 2, N, 3)` of every part; the last result are parts that cannot be made."""
    # In a mixed order, so that a build which was stopped has some of everything.
    order = sorted(range(len(catalogue)), key=lambda i: zlib.crc32(catalogue[i].id.encode()))
    clouds: dict[int, FloatArray] = {}
    for done, place in enumerate(order):
        if (cloud := cached_sample(catalogue[place], cache)) is not None:
            clouds[place] = cloud
        if done % 100 == 99:
            print(f"{done + 1} of {len(order)} parts", flush=True)
    made = sorted(clouds)
    failed = [part for place, part in enumerate(catalogue) if place not in clouds]
    return [catalogue[i] for i in made], np.stack([clouds[i] for i in made]), failed


def cached_sample(part: Part, cache: Path) -> FloatArray | None:
    """Two samples `(2, N, 3)` of a part, from the cache if they are there; None: not possible."""
    file = cache / f"{hashlib.sha256(part.id.encode()).hexdigest()[:16]}.npy"
    if not file.exists():
        try:
            sample = sample_part(part).astype(np.float32)
        except Exception as error:  # the library and its kernel raise errors of many kinds
            print(f"{part.id}: {error!r}", flush=True)
            return None
        temporary = file.with_suffix(".tmp")  # a build that is stopped leaves no half file
        with temporary.open("wb") as stream:
            np.save(stream, sample)
        temporary.replace(file)
    return np.load(file).reshape(2, NUM_POINTS, 3)


def sample_part(part: Part) -> FloatArray:
    """Points `(2 N, 3)` uniform on the surface of a part, y up, in mm.

    The random numbers depend on the id of the part alone, so parts can come and go.
    """
    shape = part.make()
    tolerance = TOLERANCE * shape.bounding_box().diagonal
    vertices, triangles = shape.tessellate(tolerance, ANGULAR_TOLERANCE)
    xyz = np.array([(v.X, v.Z, -v.Y) for v in vertices])  # z up becomes y up
    rng = np.random.default_rng([SEED, zlib.crc32(part.id.encode())])
    return sample_surface(Mesh(xyz, np.array(triangles, dtype=np.int64)), 2 * NUM_POINTS, rng)


def summary(parts: list[Part]) -> str:
    """The shapes of every class in every part of the split."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        counts[part.class_name][part.split] += 1
    lines = [f"{'class':28}" + "".join(f"{split:>7}" for split in SPLITS)]
    for name, of_class in counts.items():
        lines.append(f"{name:28}" + "".join(f"{of_class[split]:7}" for split in SPLITS))
    totals = Counter(part.split for part in parts)
    lines.append(f"{f'{len(counts)} classes':28}" + "".join(f"{totals[s]:7}" for s in SPLITS))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
