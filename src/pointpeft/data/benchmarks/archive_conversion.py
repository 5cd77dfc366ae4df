"""Write a benchmark data set as one `.npz`, which loads faster than its files."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from pointpeft.data.benchmarks.benchmark import Cloud
from pointpeft.data.benchmarks.episodes import refuse_episodes
from pointpeft.data.benchmarks.stored import DATASET_KEY, DATASETS, SIZE_KEY, choose_dataset
from pointpeft.data.prepared_items import Progress, reported
from pointpeft.errors import DataError
from pointpeft.files import replacing

__all__ = ["convert_benchmark", "write_archive"]

_BATCH = 32
"""Clouds whose farthest points are found together."""


def convert_benchmark(
    source: str | Path,
    target: str | Path,
    variant: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Write all splits of a benchmark data set as an archive.

    Points, labels, splits and ids are as stored. Clouds that differ in size (ShapeNetPart) are
    filled up to the largest by repeating their points from the first on; loading leaves copies out.
    Clouds that the papers' code reduces before it uses them (the text clouds of ModelNet40) are
    reduced in the same way: to farthest points, from one chosen at random on.

    Args:
        source: The folder of one or several benchmark data sets.
        target: The `.npz` to write; it takes its name only when it is complete.
        variant: Name of the data set, where the folder holds several.
        progress: Called with the number of shapes written and their total.

    Returns:
        The number of shapes.

    Raises:
        DataError: `target` is no `.npz` or is there already, or `source` is no benchmark data set
            or is damaged.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if target.suffix.lower() != ".npz":
        raise DataError(f"{target}: expected a file name that ends in .npz")
    if target.exists():
        raise DataError(f"{target} is there already; name another file")
    refuse_episodes(source)
    dataset = choose_dataset(source, variant)
    if dataset is None:
        raise DataError(f"{source}: no benchmark data set; known: {', '.join(DATASETS)}")
    folder = dataset.folder_in(source)
    splits = {split: dataset.entries(folder, split) for split in dataset.counts}
    sources = [source for entries in splits.values() for source in entries.sources]
    clouds: Iterable[Cloud] = dataset.clouds(sources)
    num_points = len(dataset.cloud(sources[0]).points)
    if dataset.reduced_to is not None and num_points > dataset.reduced_to:
        num_points = dataset.reduced_to
        clouds = _reduced(clouds, num_points)
    clouds = reported(clouds, len(sources), progress)
    if dataset.ragged:
        clouds = list(clouds)
        num_points = max(len(cloud.points) for cloud in clouds)
    write_archive(
        target,
        clouds,
        num_points,
        labels=np.concatenate([entries.labels for entries in splits.values()]),
        class_names=next(iter(splits.values())).class_names,
        splits=[split for split, entries in splits.items() for _ in range(len(entries))],
        ids=[id for entries in splits.values() for id in entries.ids],
        part_names=dataset.part_names,
        dataset=dataset.name,
    )
    return len(sources)


def write_archive(
    path: str | Path,
    clouds: Iterable[Cloud],
    num_points: int,
    *,
    labels: np.ndarray,
    class_names: Sequence[str],
    splits: Sequence[str],
    ids: Sequence[str],
    part_names: Sequence[str] = (),
    dataset: str | None = None,
) -> None:
    """Write an uncompressed `.npz` data set that `load_shapes` maps into memory.

    Args:
        path: The file.
        clouds: S shapes, taken one by one.
        num_points: Points of each shape in the file; those with fewer are filled up by repeating
            their points from the first on.
        labels: `(S,)` integers, places in the class names.
        class_names: In label order.
        splits: "train", "val" or "test" for each shape.
        ids: A name for each shape.
        part_names: In label order; then every shape has parts.
        dataset: Name of the benchmark data set that these shapes are, whole and as stored.

    Raises:
        DataError: There are not S shapes, or one has more points.
    """
    with replacing(path) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as store:
        # On disk, as a large set does not fit into memory.
        points = np.memmap(store, np.float32, "w+", shape=(len(labels), num_points, 3))
        seg = np.zeros((len(labels) if part_names else 0, num_points), dtype=np.int16)
        sizes = []
        for place, cloud in enumerate(clouds):
            if len(cloud.points) > num_points:
                raise DataError(f"{ids[place]}: {len(cloud.points)} points, not {num_points}")
            sizes.append(len(cloud.points))
            filled = np.arange(num_points) % len(cloud.points)
            points[place] = cloud.points[filled]
            if part_names and cloud.parts is not None:
                seg[place] = cloud.parts[filled]
        if len(sizes) != len(labels):
            raise DataError(f"{path}: {len(sizes)} rows, not {len(labels)}")
        arrays = {
            "points": points,
            "label": np.asarray(labels, dtype=np.int64),
            "names": np.array(class_names),
            "split": np.array(splits),
            "id": np.array(ids),
        }
        if part_names:
            arrays |= {"seg": seg, "parts": np.array(part_names), SIZE_KEY: np.array(sizes)}
        if dataset is not None:
            arrays[DATASET_KEY] = np.array(dataset)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def _reduced(clouds: Iterable[Cloud], num_points: int) -> Iterator[Cloud]:
    """The farthest points of clouds of one size; where there is a GPU, it finds them."""
    import torch  # here, so that reading and describing data does not wait for it

    from pointpeft.ops import farthest_point_sample, gather_points

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = np.random.default_rng(0)  # the same file at every call
    rest = iter(clouds)
    while batch := [cloud.points for cloud in islice(rest, _BATCH)]:
        first = generator.integers(len(batch[0]), size=len(batch))
        # The sampler starts at the first point.
        rolled = [np.roll(cloud, -start, axis=0) for cloud, start in zip(batch, first, strict=True)]
        points = torch.from_numpy(np.stack(rolled)).to(device)
        kept = gather_points(points, farthest_point_sample(points, num_points))
        yield from map(Cloud, kept.cpu().numpy())
