"""ScanObjectNN: real scans of objects, in three variants."""

from dataclasses import dataclass
from pathlib import Path

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, Entries
from pointpeft.data.benchmarks.source_files import Expected, read_h5

__all__ = ["OBJ_BG", "OBJ_ONLY", "PB_T50_RS"]

_CLASSES = """
bag bin box cabinet chair desk display door shelf table bed pillow sink sofa toilet
"""
_FOLDER = "ScanObjectNN"
_UNPACKED = "h5_files"
"""The folder that the archive of its owners unpacks to."""


@dataclass(frozen=True, eq=False)
class ScanObjectNN(BenchmarkDataset):
    """Clouds of 2,048 points, one HDF5 file for each split; the tree lists them in that order."""

    def find(self, root: Path) -> Path | None:
        """As of every data set, or in `h5_files`, which its owners' archive unpacks to."""
        roots = (root, root / _UNPACKED, root / _FOLDER / _UNPACKED)
        return next(filter(None, map(super().find, roots)), None)

    def entries(self, folder: Path, split: str) -> Entries:
        (part,) = self.parts_of(split)
        file = self.require(folder, self.tree[list(self.counts).index(part)].path)
        points, labels = read_h5(file, len(self.class_names))
        ids = tuple(f"{file.stem}:{row}" for row in range(len(points)))
        return Entries(ids, labels, self.class_names, points)


def _variant(name: str, title: str, files: str, train: int, test: int) -> ScanObjectNN:
    """The variant in the files `training_<files>` and `test_<files>`."""
    folder, _, kind = files.partition("/")
    what = "data (S, 2048, 3), label (S,)"
    return ScanObjectNN(
        name=f"scanobjectnn_{name}",
        title=f"ScanObjectNN {title}",
        folder=_FOLDER,
        tree=(
            Expected(f"{folder}/training_{kind}.h5", what),
            Expected(f"{folder}/test_{kind}.h5", what),
        ),
        counts={"train": train, "test": test},
        owner="https://hkust-vgd.github.io/scanobjectnn",
        class_names=tuple(_CLASSES.split()),
    )


OBJ_BG = _variant("obj_bg", "OBJ-BG", "main_split/objectdataset", 2309, 581)
"""Objects with the background around them."""
OBJ_ONLY = _variant("obj_only", "OBJ-ONLY", "main_split_nobg/objectdataset", 2309, 581)
"""Objects alone."""
PB_T50_RS = _variant(
    "pb_t50_rs", "PB-T50-RS", "main_split/objectdataset_augmentedrot_scale75", 11416, 2882
)
"""Objects with background, shifted, turned and scaled: the hardest variant."""
