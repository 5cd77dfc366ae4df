"""Read benchmark data sets whole, or list them for the general loader."""

from pathlib import Path

from pointpeft.data.archive import used_names
from pointpeft.data.benchmarks.benchmark import BenchmarkSplit
from pointpeft.data.benchmarks.datasets import choose_dataset, get_dataset
from pointpeft.data.splits import Item, Listing

__all__ = ["list_benchmark", "read_benchmark"]


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
