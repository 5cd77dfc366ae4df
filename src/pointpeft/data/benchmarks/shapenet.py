"""ShapeNet-55, which published backbones are pre-trained on, and ShapeNetPart with part labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, Cloud, Entries
from pointpeft.data.benchmarks.source_files import (
    Expected,
    check_listed,
    class_labels,
    read_array,
    read_json_list,
    read_lines,
    read_table,
)
from pointpeft.data.parts import as_part_labels
from pointpeft.errors import DataError

__all__ = ["PART_IDS", "SHAPENET55", "SHAPENETPART"]

_SYNSETS = """
02691156 02747177 02773838 02801938 02808440 02818832 02828884 02843684 02871439 02876657 02880940
02924116 02933112 02942699 02946921 02954340 02958343 02992529 03001627 03046257 03085013 03207941
03211117 03261776 03325088 03337140 03467517 03513137 03593526 03624134 03636649 03642806 03691459
03710193 03759954 03761084 03790512 03797390 03928116 03938244 03948459 03991062 04004475 04074963
04090263 04099429 04225987 04256520 04330267 04379243 04401088 04460130 04468005 04530566 04554684
"""
_LISTS = "ShapeNet-55/{}.txt"
_CLOUDS = "shapenet_pc"


@dataclass(frozen=True, eq=False)
class ShapeNet55(BenchmarkDataset):
    """Clouds of 8,192 points, a file each; the class is the synset that a file name begins with."""

    def entries(self, folder: Path, split: str) -> Entries:
        ids: list[str] = []
        labels: list[np.ndarray] = []
        files: list[Path] = []
        for part in self.parts_of(split):
            list_file = self.require(folder, _LISTS.format(part))
            lines = read_lines(list_file)
            listed = [folder / _CLOUDS / line for line in lines]
            check_listed(list_file, listed)
            synsets = [line.partition("-")[0] for line in lines]
            labels.append(class_labels(list_file, lines, synsets, self.class_names))
            ids += [line.removesuffix(".npy") for line in lines]
            files += listed
        return Entries(tuple(ids), np.concatenate(labels), self.class_names, tuple(files))

    def read_file(self, path: Path) -> Cloud:
        return Cloud(read_array(path))


SHAPENET55 = ShapeNet55(
    name="shapenet55",
    title="ShapeNet-55",
    folder="ShapeNet55-34",
    tree=(
        *(
            Expected(_LISTS.format(part), "<synset>-<model>.npy, one a line")
            for part in ("train", "test")
        ),
        Expected(f"{_CLOUDS}/*.npy", "<synset>-<model>.npy: points (8192, 3)"),
    ),
    counts={"train": 41952, "test": 10518},
    owner="https://shapenet.org",
    class_names=tuple(_SYNSETS.split()),
    unions={"whole": ("test", "train")},
)
"""Its classes are named by synset; `whole` is the test list before the train list."""


_CATEGORIES = {  # name: (synset, number of parts), in label order
    "Airplane": ("02691156", 4),
    "Bag": ("02773838", 2),
    "Cap": ("02954340", 2),
    "Car": ("02958343", 4),
    "Chair": ("03001627", 4),
    "Earphone": ("03261776", 3),
    "Guitar": ("03467517", 3),
    "Knife": ("03624134", 2),
    "Lamp": ("03636649", 4),
    "Laptop": ("03642806", 2),
    "Motorbike": ("03790512", 6),
    "Mug": ("03797390", 2),
    "Pistol": ("03948459", 3),
    "Rocket": ("04099429", 3),
    "Skateboard": ("04225987", 3),
    "Table": ("04379243", 3),
}
_STARTS = pairwise(accumulate((parts for _, parts in _CATEGORIES.values()), initial=0))

PART_IDS: dict[str, range] = dict(zip(_CATEGORIES, (range(*ends) for ends in _STARTS), strict=True))
"""Part ids of each category; those of all categories count from 0 to 49."""

_NAMES = "synsetoffset2category.txt"
_LIST = "train_test_split/shuffled_{}_file_list.json"


@dataclass(frozen=True, eq=False)
class ShapeNetPart(BenchmarkDataset):
    """Text clouds of any size; shapes come by category and, in it, by file name."""

    def entries(self, folder: Path, split: str) -> Entries:
        names, synsets = self._categories(folder)
        listed: set[Path] = set()
        for part in self.parts_of(split):
            list_file = self.require(folder, _LIST.format(part))
            files = [_listed_file(list_file, each) for each in read_json_list(list_file)]
            check_listed(list_file, [folder / file for file in files])
            listed.update(files)
        label = {synset: number for number, synset in enumerate(synsets)}
        strange = sorted({file.parts[0] for file in listed} - set(label))
        if strange:
            raise DataError(f"{folder / _NAMES}: lacks the listed categories {', '.join(strange)}")
        ordered = sorted(listed, key=lambda file: (label[file.parts[0]], file.name))
        return Entries(
            ids=tuple(file.with_suffix("").as_posix() for file in ordered),
            labels=np.array([label[file.parts[0]] for file in ordered], dtype=np.int64),
            class_names=names,
            sources=tuple(folder / file for file in ordered),
        )

    def order(self, ids: Sequence[str], labels: np.ndarray) -> Sequence[int]:
        """By category and, in it, by file name."""
        names = [PurePosixPath(f"{id}.txt").name for id in ids]
        return sorted(range(len(ids)), key=lambda place: (labels[place], names[place]))

    def read_file(self, path: Path) -> Cloud:
        table = read_table(path, 7)
        (name,) = (name for name, (synset, _) in _CATEGORIES.items() if synset == path.parent.name)
        allowed = PART_IDS[name]
        parts = as_part_labels(table[:, -1], (len(table),), f"{path}: parts")
        bad = np.flatnonzero((parts < allowed[0]) | (parts > allowed[-1]))
        if len(bad):
            raise DataError(
                f"{path}: part {parts[bad[0]]} of point {bad[0]}; "
                f"parts of {name} are {allowed[0]} to {allowed[-1]}"
            )
        return Cloud(np.ascontiguousarray(table[:, :3]), parts)

    def _categories(self, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names and synsets in label order."""
        path = self.require(folder, _NAMES)
        rows = [line.split() for line in read_lines(path)]
        for row in rows:
            if len(row) != 2 or row[0] not in _CATEGORIES or _CATEGORIES[row[0]][0] != row[1]:
                raise DataError(
                    f"{path}: {' '.join(row)!r} is no category; expected lines <name><tab><synset> "
                    f"with {', '.join(_CATEGORIES)}"
                )
        return tuple(row[0] for row in rows), tuple(row[1] for row in rows)


def _listed_file(list_file: Path, entry: str) -> Path:
    """The file, below the data set's folder, that `<any>/<synset>/<id>` names."""
    fields: Sequence[str] = entry.split("/")
    if len(fields) != 3:
        raise DataError(f"{list_file}: {entry!r}; expected entries shape_data/<synset>/<id>")
    return Path(fields[1], f"{fields[2]}.txt")


SHAPENETPART = ShapeNetPart(
    name="shapenetpart",
    title="ShapeNetPart",
    folder="shapenetcore_partanno_segmentation_benchmark_v0_normal",
    tree=(
        Expected(_NAMES, "<name><tab><synset>, one a line, in label order"),
        *(
            Expected(_LIST.format(part), '["shape_data/<synset>/<id>", ...]')
            for part in ("train", "val", "test")
        ),
        Expected("*/*.txt", "<synset>/<id>.txt: x y z nx ny nz part a line", telling=False),
    ),
    counts={"train": 12137, "val": 1870, "test": 2874},
    owner="https://cs.stanford.edu/~ericyi/project_page/part_annotation",
    class_names=tuple(_CATEGORIES),
    unions={"trainval": ("train", "val")},
    ragged=True,
    part_names=tuple(f"{name}/{part}" for name, ids in PART_IDS.items() for part in ids),
)
"""`trainval` is train and val together, as the published part segmentation trains on."""
