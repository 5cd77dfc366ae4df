"""ShapeNet-55: the shapes that the published backbones are pre-trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, Cloud, Entries
from pointpeft.data.benchmarks.file_layout import Expected
from pointpeft.data.benchmarks.files import check_listed, read_array, read_lines
from pointpeft.errors import DataError

__all__ = ["SHAPENET55"]

_SYNSETS = """
02691156 02747177 02773838 02801938 02808440 02818832 02828884 02843684 02871439 02876657 02880940
02924116 02933112 02942699 02946921 02954340 02958343 02992529 03001627 03046257 03085013 03207941
03211117 03261776 03325088 03337140 03467517 03513137 03593526 03624134 03636649 03642806 03691459
03710193 03759954 03761084 03790512 03797390 03928116 03938244 03948459 03991062 04004475 04074963
04090263 04099429 04225987 04256520 04330267 04379243 04401088 04460130 04468005 04530566 04554684
"""
_LISTS = {"train": "ShapeNet-55/train.txt", "test": "ShapeNet-55/test.txt"}
_CLOUDS = "shapenet_pc"


@dataclass(frozen=True, eq=False)
class ShapeNet55(BenchmarkDataset):
    """Clouds of 8,192 points, a file each; the class is the synset that a file name begins with."""

    def entries(self, folder: Path, split: str) -> Entries:
        ids: list[str] = []
        labels: list[np.ndarray] = []
        files: list[Path] = []
        for part in self.parts_of(split):
            list_file = self.require(folder, _LISTS[part])
            lines = read_lines(list_file)
            listed = [folder / _CLOUDS / line for line in lines]
            check_listed(list_file, listed)
            labels.append(self._labels(list_file, lines))
            ids += [line.removesuffix(".npy") for line in lines]
            files += listed
        return Entries(tuple(ids), np.concatenate(labels), self.class_names, tuple(files))

    def read_file(self, path: Path) -> Cloud:
        return Cloud(read_array(path))

    def _labels(self, list_file: Path, lines: Sequence[str]) -> np.ndarray:
        number = {synset: label for label, synset in enumerate(self.class_names)}
        unknown = [line for line in lines if line.partition("-")[0] not in number]
        if unknown:
            raise DataError(
                f"{list_file}: {unknown[0]!r} is of no class; expected <synset>-<model>.npy with "
                f"one of the {len(number)} synsets of ShapeNet-55"
            )
        return np.array([number[line.partition("-")[0]] for line in lines], dtype=np.int64)


SHAPENET55 = ShapeNet55(
    name="shapenet55",
    title="ShapeNet-55",
    folder="ShapeNet55-34",
    tree=(
        Expected(_LISTS["train"], "<synset>-<model>.npy, one a line"),
        Expected(_LISTS["test"], "<synset>-<model>.npy, one a line"),
        Expected(f"{_CLOUDS}/*.npy", "<synset>-<model>.npy: points (8192, 3)"),
    ),
    counts={"train": 41952, "test": 10518},
    owner="https://shapenet.org",
    class_names=tuple(_SYNSETS.split()),
    unions={"whole": ("test", "train")},
)
"""Its classes are named by synset; `whole` is the test list before the train list."""
