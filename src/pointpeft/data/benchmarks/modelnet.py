"""ModelNet40 in its three layouts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, Cloud, Entries
from pointpeft.data.benchmarks.source_files import (
    Expected,
    as_integer,
    check_labels,
    check_listed,
    class_labels,
    read_h5,
    read_lines,
    read_table,
)
from pointpeft.data.pickles import read_pickle
from pointpeft.errors import DataError

__all__ = ["MODELNET40", "MODELNET40_H5"]

_CLASSES = """
airplane bathtub bed bench bookshelf bottle bowl car chair cone cup curtain desk door dresser
flower_pot glass_box guitar keyboard lamp laptop mantel monitor night_stand person piano plant
radio range_hood sink sofa stairs stool table tent toilet tv_stand vase wardrobe xbox
"""
_OWNER = "https://modelnet.cs.princeton.edu"
_NAMES = "modelnet40_shape_names.txt"
_LIST, _CACHE = "modelnet40_{}.txt", "modelnet40_{}_8192pts_fps.dat"
_PARTS = ("train", "test")


@dataclass(frozen=True, eq=False)
class ModelNet40(BenchmarkDataset):
    """Clouds of 10,000 points in text files, or 8,192 of them in a pickle, which comes first."""

    def entries(self, folder: Path, split: str) -> Entries:
        (part,) = self.parts_of(split)
        names = tuple(read_lines(self.require(folder, _NAMES)))
        cache = folder / _CACHE.format(part)
        if cache.is_file():
            points, labels = _read_cache(cache, len(names))
            return Entries(_cache_ids(folder, part, labels, names), labels, names, points)
        list_file = self.require(folder, _LIST.format(part))
        ids = tuple(read_lines(list_file))
        labels = _list_labels(list_file, ids, names)
        files = tuple(
            folder / names[label] / f"{id}.txt" for id, label in zip(ids, labels, strict=True)
        )
        check_listed(list_file, files)
        return Entries(ids, labels, names, files)

    def read_file(self, path: Path) -> Cloud:
        return Cloud(np.ascontiguousarray(read_table(path, 3, ",")[:, :3]))


@dataclass(frozen=True, eq=False)
class ModelNet40H5(BenchmarkDataset):
    """Clouds of 2,048 points in numbered HDF5 files."""

    def entries(self, folder: Path, split: str) -> Entries:
        (part,) = self.parts_of(split)
        points: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        ids: list[str] = []
        for file in self._files(folder, part):
            clouds, numbers = read_h5(file, len(self.class_names))
            if points and clouds.shape[1:] != points[0].shape[1:]:
                raise DataError(
                    f"{file}: data {clouds.shape}, but clouds of {len(points[0][0])} points "
                    "in the files before it"
                )
            points.append(clouds)
            labels.append(numbers)
            ids += [f"{file.stem}:{row}" for row in range(len(clouds))]
        return Entries(tuple(ids), np.concatenate(labels), self.class_names, np.concatenate(points))

    def _files(self, folder: Path, part: str) -> list[Path]:
        """The files of a split: those its list names, or else all, by number."""
        list_file = folder / f"{part}_files.txt"
        if list_file.is_file():
            files = [folder / Path(line).name for line in read_lines(list_file)]
            check_listed(list_file, files)
            return files
        self.require(folder, f"ply_data_{part}0.h5")
        numbers = [
            int(found[1])
            for file in folder.glob(f"ply_data_{part}*.h5")
            if (found := re.fullmatch(rf"ply_data_{part}(\d+)\.h5", file.name))
        ]
        return [
            self.require(folder, f"ply_data_{part}{number}.h5")
            for number in range(max(numbers) + 1)
        ]


MODELNET40 = ModelNet40(
    name="modelnet40",
    title="ModelNet40",
    folder="ModelNet/modelnet40_normal_resampled",
    tree=(
        Expected(_NAMES, "class names, one a line, in label order"),
        *(
            Expected(_LIST.format(part), "<class>_<number>, a line", instead=_CACHE.format(part))
            for part in _PARTS
        ),
        Expected(
            "*/*_*.txt",
            "<class>/<class>_<number>.txt: x,y,z,nx,ny,nz a line",
            telling=False,
            instead=_CACHE.format("train"),
        ),
        *(
            Expected(_CACHE.format(part), "or, instead of list and clouds, a pickle", needed=False)
            for part in _PARTS
        ),
    ),
    counts={"train": 9843, "test": 2468},
    owner=_OWNER,
    class_names=tuple(_CLASSES.split()),
    reduced_to=8192,
)
"""The form that the published fine-tuning reads: lists, text clouds and pickled caches."""
MODELNET40_H5 = ModelNet40H5(
    name="modelnet40_h5",
    title="ModelNet40 in HDF5",
    folder="modelnet40_ply_hdf5_2048",
    tree=(
        Expected("ply_data_train*.h5", "numbered from 0: data (S, 2048, 3), label (S, 1)"),
        Expected("ply_data_test*.h5", "numbered from 0: data (S, 2048, 3), label (S, 1)"),
        Expected("train_files.txt", "names of the training files", needed=False, telling=False),
        Expected("test_files.txt", "names of the test files", needed=False, telling=False),
    ),
    counts={"train": 9840, "test": 2468},
    owner=_OWNER,
    class_names=tuple(_CLASSES.split()),
)
"""The form that the published linear SVM reads."""


def _list_labels(list_file: Path, ids: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The class of `<class>_<number>` is all before its last underscore."""
    return class_labels(list_file, ids, [id.rpartition("_")[0] for id in ids], names)


def _read_cache(path: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `(S, N, 3)` and labels `(S,)` of a pickled `[clouds, labels]`."""
    match read_pickle(path):
        case [list(clouds), list(labels)] if len(clouds) == len(labels) > 0:
            pass
        case _:
            raise DataError(f"{path}: {_CACHE_EXPECTED}")
    shape: tuple[int, ...] = getattr(clouds[0], "shape", ())
    if len(shape) != 2 or shape[1] < 3:
        raise DataError(f"{path}: a cloud {shape}; {_CACHE_EXPECTED}")
    points = np.empty((len(clouds), shape[0], 3), dtype=np.float32)
    for place, cloud in enumerate(clouds):
        if not isinstance(cloud, np.ndarray) or cloud.shape != shape or cloud.dtype.kind != "f":
            raise DataError(
                f"{path}: cloud {place} is unlike the first, {shape}; {_CACHE_EXPECTED}"
            )
        points[place] = cloud[:, :3]
        clouds[place] = None  # with its normals it takes twice the memory of what is kept
    try:
        numbers = np.array([as_integer(label) for label in labels], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: labels are no integers ({error}); {_CACHE_EXPECTED}") from error
    check_labels(path, numbers, num_classes)
    return points, numbers


_CACHE_EXPECTED = "expected a pickle of [list of clouds (N, 6), list of as many labels (1,)]"


def _cache_ids(
    folder: Path, part: str, labels: np.ndarray, names: Sequence[str]
) -> tuple[str, ...]:
    """Names from the list beside a cache, if it lists shapes of the same classes; else numbers."""
    list_file = folder / _LIST.format(part)
    if list_file.is_file():
        ids = tuple(read_lines(list_file))
        if np.array_equal(_list_labels(list_file, ids, names), labels):
            return ids
    return tuple(f"{part}:{place}" for place in range(len(labels)))
