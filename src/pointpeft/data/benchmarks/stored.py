"""All benchmark data sets by name, in their folders or converted to one `.npz`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointpeft.data.archive import list_archive, used_names
from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, BenchmarkSplit
from pointpeft.data.benchmarks.modelnet import MODELNET40, MODELNET40_H5
from pointpeft.data.benchmarks.scanobjectnn import OBJ_BG, OBJ_ONLY, PB_T50_RS
from pointpeft.data.benchmarks.shapenet import SHAPENET55, SHAPENETPART
from pointpeft.data.npz import read_npz
from pointpeft.data.prepared_items import Progress
from pointpeft.data.splits import Item, Listing
from pointpeft.errors import DataError, nearest_hint

__all__ = [
    "DATASETS",
    "DATASET_KEY",
    "SIZE_KEY",
    "StoredDataset",
    "archived_dataset",
    "choose_dataset",
    "find_datasets",
    "find_stored",
    "get_dataset",
    "list_benchmark",
    "read_benchmark",
]

_ALL = (MODELNET40, MODELNET40_H5, OBJ_BG, OBJ_ONLY, PB_T50_RS, SHAPENET55, SHAPENETPART)
_FAMILY = "scanobjectnn_"

DATASETS: dict[str, BenchmarkDataset] = {dataset.name: dataset for dataset in _ALL}
"""Every benchmark data set by its name."""


def get_dataset(name: str) -> BenchmarkDataset:
    """A data set by its name; a variant of ScanObjectNN may be named alone, as "obj_bg".

    Raises:
        DataError: There is none of that name.
    """
    for known in (name, _FAMILY + name):
        if known in DATASETS:
            return DATASETS[known]
    hint = nearest_hint(name, list(DATASETS))
    raise DataError(f"{name!r} is no benchmark data set; {hint}known: {', '.join(DATASETS)}")


def find_datasets(path: Path) -> dict[str, BenchmarkDataset]:
    """By name, those that `path` holds: a data set's own folder, or one that several lie in."""
    return {name: dataset for name, dataset in DATASETS.items() if dataset.find(path)}


def choose_dataset(path: Path, variant: str | None = None) -> BenchmarkDataset | None:
    """The one data set of a folder, or that of its data sets which `variant` names.

    Returns:
        None when the folder holds none and none is named.

    Raises:
        DataError: There are several and none is named, or the named one is unknown.
    """
    if variant is not None:
        return get_dataset(variant)
    found = find_datasets(path)
    if len(found) > 1:
        raise DataError(
            f"{path}: holds several data sets; name one with data.variant, or `variant`: "
            f"{', '.join(found)}"
        )
    return next(iter(found.values()), None)


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
    found = None
    if path.suffix.lower() == ".npz":
        try:
            found = DATASETS.get(str(read_npz(path).get(DATASET_KEY)))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    if wanted is not None and wanted is not found:
        holds = f"holds {found.name}" if found else "does not say which benchmark data set it holds"
        raise DataError(
            f"data.variant={variant!r}: {path} {holds}; leave data.variant empty for a file of "
            "your own, and make one of a benchmark data set with `pointpeft data convert`"
        )
    return found


def _read_archive(dataset: BenchmarkDataset, path: Path, split: str) -> BenchmarkSplit:
    listing = list_archive(path, segmented=bool(dataset.part_names))
    stored = read_npz(path)  # all names, also of classes without shapes
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
    sizes = stored.get(SIZE_KEY, np.zeros(0, int))
    if sizes.shape != (len(listing.items),) or sizes.dtype.kind not in "iu" or sizes.min() < 1:
        raise DataError(f"{path}: no array {SIZE_KEY!r} (S,) of positive integers; convert it anew")
    sizes = sizes[places][order]
    parts = [np.asarray(item.seg, np.int64) for item in items]
    points = tuple(cloud[:size] for cloud, size in zip(clouds, sizes, strict=True))
    return BenchmarkSplit(
        points, *about, tuple(part[:size] for part, size in zip(parts, sizes, strict=True))
    )


def read_benchmark(name: str, root: str | Path, split: str) -> BenchmarkSplit:
    """Read a split of a benchmark data set as it is stored, in released order.

    Args:
        name: One of `DATASETS`.
        root: The folder that holds data sets in the folders of their releases, or one of these.
        split: "train" or "test"; ShapeNetPart also has "val" and "trainval", ShapeNet-55 "whole".

    Raises:
        DataError: The data set or split is unknown, missing, damaged or of another form.

    Example:
        >>> split = read_benchmark("scanobjectnn_pb_t50_rs", "data", "test")
        >>> split.points.shape, split.class_names[split.labels[0]]
    """
    dataset = get_dataset(name)
    return dataset.read(dataset.folder_in(Path(root).expanduser()), split)


def list_benchmark(
    path: Path, *, labelled: bool = True, variant: str | None = None
) -> Listing | None:
    """The shapes of a folder in a published layout, with the splits and labels it states.

    Args:
        path: The folder of one or several benchmark data sets.
        labelled: Whether classes are kept.
        variant: Name of the data set, where the folder holds several.

    Returns:
        None when the folder holds no benchmark data set and none is named.

    Raises:
        DataError: As for `read_benchmark`, or the folder holds several data sets and none is named.
    """
    dataset = choose_dataset(path, variant)
    if dataset is None:
        return None
    folder = dataset.folder_in(path)
    items: list[Item] = []
    for split in dataset.counts:
        entries = dataset.entries(folder, split)
        rows = zip(entries.ids, entries.labels, entries.sources, strict=True)
        for id, label, source in rows:
            class_name = entries.class_names[label] if labelled else None
            name = dataset.object_id(id)
            items.append(Item(id, class_name, split, source, object_id=name))
    same_size = items[0].origin.shape[0] if not isinstance(items[0].origin, Path) else None
    names, notes = used_names(items, entries.class_names) if labelled else ((), ())
    return Listing(
        tuple(items), names, same_size, notes, dataset.part_names, dataset.title, dataset.family
    )
