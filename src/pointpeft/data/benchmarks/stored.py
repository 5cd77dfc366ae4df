"""Benchmark data sets as a user keeps them: in their folders, or converted to one `.npz`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointpeft.data.archive import list_archive
from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, BenchmarkSplit
from pointpeft.data.benchmarks.datasets import DATASETS, choose_dataset, get_dataset
from pointpeft.data.loading import Progress
from pointpeft.data.npz import read_npz
from pointpeft.errors import DataError

__all__ = ["DATASET_KEY", "SIZE_KEY", "StoredDataset", "archived_dataset", "find_stored"]

DATASET_KEY = "dataset"
"""Array of an archive that names the benchmark data set it was converted from."""
SIZE_KEY = "size"
"""Array `(S,)` of how many points each shape has; those after them only fill up the array."""


@dataclass(frozen=True)
class StoredDataset:
    """A benchmark data set and its folder, or the archive converted from it."""

    dataset: BenchmarkDataset
    path: Path

    def read(self, split: str, progress: Progress | None = None) -> BenchmarkSplit:
        """All shapes of a split, as `BenchmarkDataset.read` gives them.

        Raises:
            DataError: As there, or the archive is damaged or lacks the split.
        """
        if self.path.is_dir():
            return self.dataset.read(self.path, split, progress)
        return _read_archive(self.dataset, self.path, split)


def find_stored(path: Path, variant: str | None) -> StoredDataset | None:
    """What `path` holds of the benchmark data sets: the only one, or the one that is named.

    Returns:
        None when it holds none and none is named, or is a file of another kind.

    Raises:
        DataError: There are several and none is named, or the named one is unknown or not there.
    """
    if path.is_file():
        archived = archived_dataset(path, variant)
        return None if archived is None else StoredDataset(archived, path)
    if variant is None and not path.is_dir():
        return None
    dataset = choose_dataset(path, variant)
    return None if dataset is None else StoredDataset(dataset, dataset.folder_in(path))


def archived_dataset(path: Path, variant: str | None = None) -> BenchmarkDataset | None:
    """The benchmark data set that an `.npz` was converted from.

    Returns:
        None for other files, when none is named.

    Raises:
        DataError: The file does not hold the data set that is named.
    """
    wanted = None if variant is None else get_dataset(variant)
    name = _archived_name(path)
    found = None if name is None else DATASETS.get(name)
    if wanted is not None and wanted is not found:
        holds = f"holds {found.name}" if found else "does not say which benchmark data set it holds"
        raise DataError(
            f"data.variant={variant!r}: {path} {holds}; leave data.variant empty for a file of "
            "your own, and make one of a benchmark data set with `pointpeft data convert`"
        )
    return found


def _archived_name(path: Path) -> str | None:
    if path.suffix.lower() != ".npz":
        return None
    try:
        name = read_npz(path, only=(DATASET_KEY,)).get(DATASET_KEY)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return None if name is None or name.shape != () else str(name)


def _read_archive(dataset: BenchmarkDataset, path: Path, split: str) -> BenchmarkSplit:
    listing = list_archive(path, segmented=bool(dataset.part_names))
    stored = read_npz(path, only=("names", SIZE_KEY))  # all names, also of classes without shapes
    names = [str(name) for name in stored["names"].ravel()]
    places = [
        place
        for part in dataset.parts_of(split)
        for place, item in enumerate(listing.items)
        if item.split == part and item.class_name is not None
    ]
    if not places:
        raise DataError(f"{path}: holds no shape of the {split} split")
    found = [listing.items[place] for place in places]
    labels = np.array([names.index(str(item.class_name)) for item in found], dtype=np.int64)
    order = list(dataset.order([item.id for item in found], labels))
    items = [found[place] for place in order]
    clouds = [np.asarray(item.origin, np.float32) for item in items]
    about = labels[order], tuple(item.id for item in items), tuple(names)
    if not dataset.ragged:
        return BenchmarkSplit(np.stack(clouds), *about)
    sizes = _sizes(path, stored, len(listing.items))[places][order]
    parts = [np.asarray(item.seg, np.int64) for item in items]
    points = tuple(cloud[:size] for cloud, size in zip(clouds, sizes, strict=True))
    return BenchmarkSplit(
        points, *about, tuple(part[:size] for part, size in zip(parts, sizes, strict=True))
    )


def _sizes(path: Path, stored: dict[str, np.ndarray], count: int) -> np.ndarray:
    """How many points of each shape are its own, `(S,)`."""
    sizes = stored.get(SIZE_KEY)
    if sizes is None or sizes.shape != (count,) or sizes.dtype.kind not in "iu" or sizes.min() < 1:
        raise DataError(f"{path}: no array {SIZE_KEY!r} (S,) of positive integers; convert it anew")
    return sizes
