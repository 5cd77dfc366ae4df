"""How a benchmark data set lies on disk: the tree of its files, and finding it."""

from dataclasses import dataclass
from pathlib import Path

from pointpeft.errors import DataError

__all__ = ["Expected", "Layout"]


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
class Layout:
    """The files of a data set below their folder.

    Attributes:
        title: By which people know it.
        folder: Where it lies below the folder of all data.
        tree: Its files.
        owner: Where its owners distribute it.
    """

    title: str
    folder: str
    tree: tuple[Expected, ...]
    owner: str

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
            raise DataError(f"{root}: {self.expectation(root / self.folder)}")
        return folder

    def require(self, folder: Path, path: str) -> Path:
        """A file of the data set.

        Raises:
            DataError: It is missing; the message shows what else is.
        """
        if not (folder / path).is_file():
            raise DataError(f"{folder / path}: no such file; {self.expectation(folder)}")
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

    def expectation(self, folder: Path) -> str:
        """What is expected where, what of it `folder` lacks, and where to get it."""
        return (
            f"{self.title} is expected as\n{self.show_tree(folder)}\n"
            f"its owners distribute it at {self.owner}"
        )
