"""All benchmark data sets by name, and which of them a folder holds."""

from pathlib import Path

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset
from pointpeft.data.benchmarks.modelnet import MODELNET40, MODELNET40_H5
from pointpeft.data.benchmarks.scanobjectnn import OBJ_BG, OBJ_ONLY, PB_T50_RS
from pointpeft.data.benchmarks.shapenet import SHAPENET55
from pointpeft.data.benchmarks.shapenetpart import SHAPENETPART
from pointpeft.errors import DataError, nearest_hint

__all__ = ["DATASETS", "choose_dataset", "find_datasets", "get_dataset"]

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
