"""Shapes to embed: a data set, or folders and files; and how they are found again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointpeft.data import SHAPE_SUFFIXES, InputTransform
from pointpeft.data.benchmarks.stored import list_benchmark
from pointpeft.data.cache import PreparedCache
from pointpeft.data.embedded import is_embedded
from pointpeft.data.npz import read_npz
from pointpeft.data.prepare import Prepared, default_num_stored
from pointpeft.data.prepared_items import prepared_items
from pointpeft.data.shapes import absolute_source, list_shapes
from pointpeft.data.splits import Item, Listing
from pointpeft.errors import DataError
from pointpeft.locations import relative_place
from pointpeft.measure.loaded_adapter import list_shape_files

__all__ = ["ShapeSource", "cloud_cache", "list_sources"]

_GONE = "Its file is not found."
_UNREADABLE = "Its file cannot be read any more."


@dataclass(frozen=True)
class ShapeSource:
    """Where shapes were read from.

    Attributes:
        root: absolute path of a folder, which the names of shapes continue, or of an ``.npz`` data
            set; or "homeobjects".
        variant: name of a benchmark data set, where the folder holds several.
    """

    root: str
    variant: str | None = None

    def to_dict(self, folder: Path) -> dict[str, str | None]:
        """As plain values for a file in ``folder``."""
        return {"root": relative_place(self.root, folder), "variant": self.variant}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> "ShapeSource":
        """From what :meth:`to_dict` gave to a file that is now in ``folder``.

        Raises:
            TypeError: a key is unknown, missing or of another kind.
        """
        found = cls(**values)
        if is_embedded(found.root):
            return found
        return replace(found, root=str((folder / found.root).resolve()))

    def find(
        self, ids: Sequence[str], transform: InputTransform
    ) -> dict[str, NDArray[np.float32] | str]:
        """Shapes by their names: prepared points ``(N, 3)``, or a sentence where there are none."""
        found: dict[str, NDArray[np.float32] | str] = dict.fromkeys(ids, _GONE)
        for item, one in prepared_items(self._items(list(found)), cloud_cache(transform)):
            found[item.id] = _UNREADABLE
            if isinstance(one, Prepared):
                found[item.id] = one.points[: transform.num_points]
        return found

    def _items(self, ids: Sequence[str]) -> list[Item]:
        """Those of the shapes that are still there."""
        folder, listing = Path(self.root), None
        items = {id: Item(id, None, None, folder / id) for id in ids if (folder / id).is_file()}
        try:
            if _is_data_set(self.root):
                listing = list_shapes(self.root)
            elif len(items) < len(ids) and folder.is_dir():
                listing = list_benchmark(folder, variant=self.variant)
        except DataError:
            pass  # so it has none of them
        if listing is not None:
            items |= {item.id: item for item in listing.items}
        return [items[id] for id in ids if id in items]


def list_sources(
    sources: Sequence[str | Path], variant: str | None = None
) -> tuple[Listing, ShapeSource]:
    """The shapes of one data set or folder, or of several files and folders; none is read.

    Shapes of a single folder are named relative to it, and have classes where it has class
    folders. Of several files and folders, they are named as they are given.

    Args:
        sources: "homeobjects", an ``.npz`` data set, a folder of files or of a benchmark data set,
            alone; or meshes, scans, and folders of them.
        variant: name of a benchmark data set, where the folder holds several.

    Raises:
        DataError: a folder without shapes, a source that is not there, or a data set beside others.
    """
    alone = len(sources) == 1
    if alone and (_is_data_set(sources[0]) or not _is_shape_file(sources[0])):
        return list_shapes(sources[0], variant), ShapeSource(absolute_source(sources[0]), variant)
    if variant is not None:
        raise DataError(f"`variant` {variant} is for the folder of benchmark data sets alone")
    for source in sources:
        if _is_data_set(source):
            raise DataError(f"{source} is a data set: embed it alone, into a file of its own")
    files = dict.fromkeys(list_shape_files(sources))  # one that is named twice is one shape
    items = tuple(Item(file.as_posix(), None, None, file) for file in files)
    return Listing(items, ()), ShapeSource(str(Path.cwd()))


def cloud_cache(transform: InputTransform) -> PreparedCache:
    """What prepares shapes, all alike: one in a file is found as the same one in a data set."""
    return PreparedCache(None, transform, default_num_stored(transform, None), seed=0)


def _is_shape_file(source: str | Path) -> bool:
    return Path(source).suffix.lower() in SHAPE_SUFFIXES and not Path(source).is_dir()


def _is_data_set(source: str | Path) -> bool:
    """Whether a source holds many clouds in one array."""
    path = Path(source)
    if is_embedded(source):
        return True
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        arrays = read_npz(path)
        return "points" in arrays and arrays["points"].ndim == 3
    except DataError:
        return False  # reading it as a shape says what is wrong
