"""Find the shapes of a data set kept as a folder of files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from pointpeft.data.parts import PART_NAMES, read_part_names
from pointpeft.data.reading import SHAPE_SUFFIXES
from pointpeft.data.splits import Item, Listing, canonical_split, class_spelling
from pointpeft.errors import ConfigError, DataError
from pointpeft.formats import counted

__all__ = [
    "EXPECTED_TREE",
    "class_and_split",
    "hidden",
    "is_split_first",
    "list_files",
    "list_folder",
    "refuse_as_source",
    "shape_files",
    "walk_files",
]

EXPECTED_TREE = """expected one of these trees:
  <folder>/<class>/<shape files>
  <folder>/{train,val,test}/<class>/<shape files>
  <folder>/<class>/{train,val,test}/<shape files>
where <folder>/unlabelled/ may hold shapes without a class; shape files end in """ + " ".join(
    sorted(SHAPE_SUFFIXES)
)
"""What a message says a folder of shapes must look like."""

_IGNORED_FOLDERS = frozenset({"__MACOSX"})


def list_folder(root: Path) -> Listing:
    """The labelled shapes below `root`; the classes are its folder names in sorted order.

    A file `parts.txt` directly in `root` names the parts of shapes that have part labels.

    Raises:
        DataError: There are no shapes, no class folders, the tree can be read in two ways, or
            `parts.txt` is no list of distinct names.
    """
    files, notes = _find(root, EXPECTED_TREE)
    nested = [file for file in files if len(file.parts) > 1]
    if not nested:
        loose = counted(len(files), "shape file")
        raise DataError(
            f"{root}: no class folder with shapes in it, but {loose} directly in it: move those of "
            f"each class into a folder of its name; {EXPECTED_TREE}"
        )
    if len(nested) < len(files):
        found = counted(len(files) - len(nested), "shape file")
        notes.append(f"left out, without a class: {found} directly in {root.name}/")
    split_first = is_split_first(root, nested)
    items = tuple(_item(root, file, split_first) for file in nested)
    class_names = tuple(sorted({item.class_name for item in items if item.class_name}))
    if not class_names:
        raise DataError(f"{root}: all shapes are unlabelled; {EXPECTED_TREE}")
    if not split_first:
        folders = {path.name for path in root.iterdir() if path.is_dir() and not hidden(path.name)}
        if empty := sorted(folders - {file.parts[0] for file in nested}):
            notes.append(f"folders without shape files left out: {', '.join(empty)}")
    part_names = read_part_names(root / PART_NAMES)
    return Listing(items, class_names, notes=tuple(notes), part_names=part_names)


def list_files(root: Path) -> Listing:
    """All shapes below `root` without labels, each with the part that a folder name states.

    Raises:
        DataError: There are no shapes.
    """
    files, notes = _find(root, f"known file types: {', '.join(sorted(SHAPE_SUFFIXES))}")
    items = []
    for file in files:
        stated = filter(None, map(canonical_split, file.parts[:-1][:2]))
        items.append(Item(file.as_posix(), None, next(stated, None), root / file))
    return Listing(tuple(items), (), notes=tuple(notes))


def shape_files(root: Path, without: str | Path | None = None) -> tuple[list[Path], Counter[str]]:
    """Shape files below a folder, as every verb finds them.

    Hidden files and folders are passed over, and so is what macOS puts beside them.

    Args:
        root: The folder.
        without: As for :func:`walk_files`.

    Returns:
        The files, relative to `root` and sorted, and how many others there are of each suffix.
    """
    files, others = [], Counter[str]()
    for file in walk_files(root, without):
        if file == root / PART_NAMES:
            continue
        if file.suffix.lower() in SHAPE_SUFFIXES:
            files.append(file.relative_to(root))
        else:
            others[file.suffix.lower() or "no suffix"] += 1
    return sorted(files, key=lambda file: file.as_posix()), others


def _find(root: Path, expected: str) -> tuple[list[Path], list[str]]:
    """Shape files below `root`, and a note on the other files; without any a message says what is
    `expected`.
    """
    files, others = shape_files(root)
    if not files:
        seen = f" (only {_counted(others)})" if others else ""
        raise DataError(f"{root}: no shape files{seen}; {expected}")
    notes = [f"files that are not shapes left out: {_counted(others)}"] if others else []
    return files, notes


def walk_files(root: Path, without: str | Path | None = None) -> Iterator[Path]:
    """Visible files below `root`, the names of one folder in memory at a time.

    Linked folders are followed, but none is entered twice.

    Args:
        root: The folder.
        without: A file or folder that is passed over, as one that is being written.
    """
    entered = set() if without is None else {os.path.realpath(without)}
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not hidden(name))
        for name in sorted(names):
            path, place = Path(folder) / name, os.path.join(real, name)  # noqa: PTH118
            if hidden(name) or place in entered:
                continue
            if without is None or not path.is_symlink() or os.path.realpath(path) not in entered:
                yield path


def refuse_as_source(output: str | Path | None, sources: Iterable[str | Path]) -> None:
    """Refuse to write what is read.

    Raises:
        ConfigError: `output` is one of the sources.
    """
    for source in sources if output is not None else ():
        if os.path.realpath(source) == os.path.realpath(output):  # type: ignore[arg-type]
            raise ConfigError(f"`output` {output} is what is read: name another place")


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is passed over."""
    return name.startswith(".") or name in _IGNORED_FOLDERS


def is_split_first(root: object, files: Iterable[PurePath]) -> bool:
    """Whether the first level names parts: all its folders do, or none of them counts as one.

    A single part name among other folders is taken for a class (a toy train among toys).

    Args:
        root: The folder, for messages.
        files: Shape files in class folders, relative to it. Of those that share their first folder
            one that lies deep and one that does not are enough.

    Raises:
        DataError: The tree can be read in two ways.
    """
    files = list(files)
    tops = {file.parts[0] for file in files if not _in_unlabelled(file)}
    splits = set(filter(canonical_split, tops))
    if splits == tops:
        if loose := [file for file in files if len(file.parts) < 3 and not _in_unlabelled(file)]:
            raise DataError(f"{root}: {loose[0]} is in no class folder; {EXPECTED_TREE}")
        return True
    if len(splits) > 1:
        raise DataError(
            f"{root}: {', '.join(sorted(splits))} look like parts of the data, "
            f"{', '.join(sorted(tops - splits)[:5])} like classes; {EXPECTED_TREE}"
        )
    return False


def _in_unlabelled(file: PurePath) -> bool:
    return canonical_split(file.parts[0]) == "unlabelled"


def _item(root: Path, file: Path, split_first: bool) -> Item:
    name, split = class_and_split(file, split_first)
    return Item(file.as_posix(), name, split, root / file)


def class_and_split(file: PurePath, split_first: bool) -> tuple[str | None, str | None]:
    """The class and the part that the folders of a file state; None where they do not.

    Args:
        file: Relative to the folder of the data set, in a class folder.
        split_first: See `is_split_first`.
    """
    first, second, *_ = file.parts
    split = canonical_split(first if split_first or _in_unlabelled(file) else second)
    name = None if split == "unlabelled" else class_spelling(second if split_first else first)
    return name, split


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in sorted(suffixes.items()))
