"""Write a published data set as one `.npz` that is mapped into memory."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pointpeft.data.loading import Progress
from pointpeft.data.npz import Rows, write_npz
from pointpeft.data.published.dataset import Cloud
from pointpeft.data.published.registry import DATASETS, choose_dataset
from pointpeft.errors import DataError

__all__ = ["convert_published", "write_archive"]


def convert_published(
    source: str | Path,
    target: str | Path,
    variant: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Write all splits of a published data set as an archive.

    Points, labels, splits and ids are as stored. Clouds that differ in size (ShapeNetPart) are
    filled up to the largest by repeating their points from the first on; loading leaves copies out.

    Args:
        source: The folder of one or several published data sets.
        target: The `.npz` to write; it takes its name only when it is complete.
        variant: Name of the data set, where the folder holds several.
        progress: Called with the number of shapes written and their total.

    Returns:
        The number of shapes.

    Raises:
        DataError: `target` is no `.npz`, or `source` is no published data set or is damaged.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if target.suffix.lower() != ".npz":
        raise DataError(f"{target}: expected a file name that ends in .npz")
    dataset = choose_dataset(source, variant)
    if dataset is None:
        raise DataError(f"{source}: no published data set; known: {', '.join(DATASETS)}")
    folder = dataset.folder_in(source)
    splits = {split: dataset.entries(folder, split) for split in dataset.counts}
    sources = [source for entries in splits.values() for source in entries.sources]
    clouds: Iterable[Cloud] = _reported(dataset.clouds(sources), len(sources), progress)
    num_points = len(dataset.cloud(sources[0]).points)
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

    Raises:
        DataError: There are not S shapes, or one has more points.
    """
    seg = np.zeros((len(labels) if part_names else 0, num_points), dtype=np.int16)

    def rows() -> Iterator[np.ndarray]:
        for place, cloud in enumerate(clouds):
            if len(cloud.points) > num_points:
                raise DataError(f"{ids[place]}: {len(cloud.points)} points, not {num_points}")
            filled = np.arange(num_points) % len(cloud.points)
            if part_names and cloud.parts is not None:
                seg[place] = cloud.parts[filled]
            yield cloud.points[filled]

    arrays: dict[str, np.ndarray | Rows] = {
        "points": Rows((len(labels), num_points, 3), np.float32, rows()),
        "label": np.asarray(labels, dtype=np.int64),
        "names": np.array(class_names),
        "split": np.array(splits),
        "id": np.array(ids),
    }
    if part_names:
        arrays |= {"seg": seg, "parts": np.array(part_names)}  # seg is complete by its turn
    write_npz(path, arrays)


def _reported(clouds: Iterable[Cloud], total: int, progress: Progress | None) -> Iterator[Cloud]:
    """The same shapes; `progress` is called after each."""
    for done, cloud in enumerate(clouds, start=1):
        yield cloud
        if progress is not None:
            progress(done, total)
