"""What a published data set is: its folder, its files, its splits and the order of its shapes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pointpeft.errors import DataError

__all__ = ["Cloud", "Entries", "Expected", "PublishedDataset", "PublishedSplit"]


class Cloud(NamedTuple):
    """One shape as stored: points `(N, 3)` float32, and their part ids `(N,)` int64 or None."""

    points: np.ndarray
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class PublishedSplit:
    """The shapes of a split as they are stored, in published order.

    Attributes:
        points: `(S, N, 3)` float32, not normalised; where clouds differ in size, one `(N_s, 3)`
            array for each shape.
        labels: `(S,)` int64, places in the class names.
        ids: Item names.
        class_names: In label order.
        parts: For each shape the part ids `(N_s,)` int64 of its points; None without parts.
    """

    points: np.ndarray | tuple[np.ndarray, ...]
    labels: np.ndarray
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    parts: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Entries:
    """The shapes of a split in published order; those with a file each are not read yet.

    Attributes:
        ids: Item names, unique in the data set.
        labels: `(S,)` int64, places in the class names.
        class_names: In label order.
        sources: A file for each shape, or all points `(S, N, 3)` float32.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    sources: tuple[Path, ...] | np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Expected:
    """A line of the tree that a data set is published as.

    Attributes:
        path: Below the folder of the data set; `*` stands for any text.
        what: What is in it.
        needed: Whether the data set is incomplete without it.
        telling: Whether finding it tells that a folder holds this data set.
        instead: A file that may take its place.
    """

    path: str
    what: str
    needed: bool = True
    telling: bool = True
    instead: str | None = None

    def is_in(self, folder: Path) -> bool:
        """Whether such a file exists."""
        return any(folder.glob(self.path))


@dataclass(frozen=True, eq=False)
class PublishedDataset(ABC):
    """A data set in the layout its owners or the published code gave it.

    Attributes:
        name: By which it is asked for.
        title: By which people know it.
        folder: Where it lies below the folder of all data.
        tree: Its files.
        counts: Published number of shapes of each split, in the order the splits are listed.
        owner: Where its owners distribute it.
        class_names: In label order.
        unions: Further splits, made of others.
        ragged: Whether clouds may differ in size.
        part_names: Names of all part ids; empty without parts.
    """

    name: str
    title: str
    folder: str
    tree: tuple[Expected, ...]
    counts: Mapping[str, int]
    owner: str
    class_names: tuple[str, ...]
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ragged: bool = False
    part_names: tuple[str, ...] = ()

    @abstractmethod
    def entries(self, folder: Path, split: str) -> Entries:
        """The shapes of a split.

        Args:
            folder: What `folder_in` found.
            split: One of `counts` or `unions`.

        Raises:
            DataError: A file is missing, damaged or not in the published form.
        """

    def read_file(self, path: Path) -> Cloud:
        """One of the files that `entries` named."""
        raise NotImplementedError(f"{self.name} keeps no file for each shape")

    # Finding it ------------------------------------------------------------------------------

    def find(self, root: Path) -> Path | None:
        """The data set's folder: `root` itself or where it lies below it; None if not there."""
        parts = Path(self.folder).parts
        candidates = [root.joinpath(*parts[start:]) for start in range(len(parts) + 1)]
        for folder in candidates:
            if any(each.telling and each.is_in(folder) for each in self.tree):
                return folder
        return None

    def folder_in(self, root: Path) -> Path:
        """As `find`.

        Raises:
            DataError: The data set is not there; the message shows what is expected where.
        """
        folder = self.find(root)
        if folder is None:
            raise DataError(f"{root}: {self._expectation(root / self.folder)}")
        return folder

    def require(self, folder: Path, path: str) -> Path:
        """A file of the data set.

        Raises:
            DataError: It is missing; the message shows what else is.
        """
        if not (folder / path).is_file():
            raise DataError(f"{folder / path}: no such file; {self._expectation(folder)}")
        return folder / path

    def missing(self, folder: Path) -> tuple[str, ...]:
        """Paths of the tree without which the data set is incomplete."""
        return tuple(
            each.path
            for each in self.tree
            if each.needed
            and not each.is_in(folder)
            and not (each.instead and (folder / each.instead).is_file())
        )

    def show_tree(self, folder: Path | None = None) -> str:
        """The expected tree as text, with a mark at what is missing in `folder`."""
        missing = () if folder is None else self.missing(folder)
        width = max(len(each.path) for each in self.tree)
        lines = [f"  {self.folder}/"]
        for each in self.tree:
            mark = "  <-- missing" if each.path in missing else ""
            lines.append(f"    {each.path:<{width}}  {each.what}{mark}")
        return "\n".join(lines)

    def _expectation(self, folder: Path) -> str:
        return (
            f"{self.title} is expected as\n{self.show_tree(folder)}\n"
            f"its owners distribute it at {self.owner}"
        )

    # Reading it ------------------------------------------------------------------------------

    def parts_of(self, split: str) -> tuple[str, ...]:
        """The splits that make up one of `counts` or `unions`, in published order.

        Raises:
            DataError: There is no such split.
        """
        if split not in self.counts and split not in self.unions:
            known = ", ".join([*self.counts, *self.unions])
            raise DataError(f"split={split!r}: {self.title} has {known}")
        return self.unions.get(split, (split,))

    def cloud(self, source: Path | np.ndarray) -> Cloud:
        """A shape from one of the sources of `Entries`."""
        return self.read_file(source) if isinstance(source, Path) else Cloud(source)

    def clouds(self, sources: Iterable[Path | np.ndarray]) -> Iterator[Cloud]:
        """Shapes from sources of `Entries`, each read when its turn comes.

        Raises:
            DataError: A shape is damaged, or of another size than the first although none should.
        """
        size = None
        for source in sources:
            cloud = self.cloud(source)
            size = size or len(cloud.points)
            if len(cloud.points) != size and not self.ragged:
                where = source if isinstance(source, Path) else self.title
                raise DataError(
                    f"{where}: {len(cloud.points)} points, the shapes before have {size}; all of "
                    f"{self.title} have the same number, so a file may be cut short"
                )
            yield cloud

    def read(self, folder: Path, split: str) -> PublishedSplit:
        """All shapes of a split.

        Raises:
            DataError: As for `entries` and `clouds`.
        """
        entries = self.entries(folder, split)
        points, parts = self._read_all(entries.sources)
        return PublishedSplit(points, entries.labels, entries.ids, entries.class_names, parts)

    def _read_all(
        self, sources: tuple[Path, ...] | np.ndarray
    ) -> tuple[np.ndarray | tuple[np.ndarray, ...], tuple[np.ndarray, ...] | None]:
        if isinstance(sources, np.ndarray):
            return sources, None
        clouds = list(self.clouds(sources))
        points = tuple(cloud.points for cloud in clouds)
        parts = tuple(cloud.parts for cloud in clouds if cloud.parts is not None)
        return points if self.ragged else np.stack(points), parts or None
