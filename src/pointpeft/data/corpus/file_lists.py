"""Lists of files that need not fit into memory: made of folders, patterns and tables."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pointpeft.data.addresses import address_of, file_system, is_address, walk_address
from pointpeft.data.chunks import in_batches
from pointpeft.data.embedded import is_embedded
from pointpeft.data.folder import (
    class_and_split,
    hidden,
    is_split_first,
    refuse_as_source,
    walk_files,
)
from pointpeft.data.parts import PART_NAMES
from pointpeft.data.reading import SHAPE_SUFFIXES
from pointpeft.data.shards.index import import_parquet
from pointpeft.data.splits import canonical_split, class_spelling
from pointpeft.errors import ConfigError, DataError
from pointpeft.files import as_text, replacing

__all__ = ["FileList", "ListedFile"]

_TABLE = ".parquet"
_COLUMNS = ("file", "class", "split")
_MEASURED = ("train", "val", "test")


class ListedFile(NamedTuple):
    """A file as it was named, its class, and the part of a data set that it belongs to."""

    file: str
    class_name: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class FileList:
    """What is known of a list whose files are in a table.

    Attributes:
        count: files.
        digest: hash of the files in their order, with their classes and parts.
        classes: in sorted order.
        root: the folder that all files lie in; None where they were named in another way.
        split_first: whether the first folders below it name parts, the second ones classes; None:
            its folders state no classes.
    """

    count: int
    digest: str
    classes: tuple[str, ...] = ()
    root: str | None = None
    split_first: bool | None = None

    @classmethod
    def make(
        cls,
        sources: Sequence[str | Path],
        block: int,
        table: Path | None = None,
        output: Path | None = None,
    ) -> "FileList":
        """Find the files that are meant; none is read.

        Args:
            sources: Meshes and scans, folders, patterns such as `parts/*.stl`, and tables
                `.parquet` with a column `file` and, if there are any, `class` and `split`; each as
                a path or an address.
            block: Files in a row group of the table.
            table: Parquet file that the list is written into, with the columns file, class and
                split; None: it is only counted and hashed.
            output: Folder that rows of the files are written into, which is not read.

        Raises:
            DataError: A source holds no shape files, or is no such table.
            ConfigError: An address cannot be reached, pyarrow is missing, or the output is one of
                the sources.
        """
        refuse_as_source(output, sources)
        named = list(dict.fromkeys(_name(source) for source in sources))
        root = _root(named)
        found, folders = _Found(), _Folders(root) if root is not None else None
        files = (one for source in named for one in _listed(source, output))
        with _writing(table) as write:
            for some in in_batches(files, block):
                for one in some:
                    found.add(one)
                    if folders is not None:
                        folders.add(one.file)
                write(some)
        if folders is None:
            return cls(found.count, found.digest.hexdigest(), tuple(sorted(found.classes)))
        return cls(found.count, found.digest.hexdigest(), *folders.classes())

    def id(self, file: str) -> str:
        """What a file is called: by its path below the root, or as it was named."""
        return file if self.root is None else file.removeprefix(f"{self.root}/")

    def read(self, table: Path, block: int) -> list[ListedFile]:
        """The files in a row group of the table that :meth:`make` wrote, with their classes.

        Raises:
            DataError: The table is missing or damaged.
        """
        arrow, parquet = import_parquet()
        try:
            with parquet.ParquetFile(table) as file:
                rows = file.read_row_group(block).to_pylist()
        except (OSError, arrow.ArrowException) as error:
            raise DataError(f"{table} cannot be read: {error}") from error
        found = ([row[key] for key in _COLUMNS] for row in rows)
        return [self._with_class(ListedFile(os.fsdecode(file), *more)) for file, *more in found]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FileList":
        """From what :meth:`to_dict` gave."""
        return cls(**{**values, "classes": tuple(values["classes"])})

    def _with_class(self, one: ListedFile) -> ListedFile:
        path = PurePosixPath(self.id(one.file))
        if self.split_first is None or len(path.parts) < 2:
            return one
        name, split = class_and_split(path, self.split_first)
        return ListedFile(one.file, as_text(name), split)


@dataclass
class _Found:
    """Counts and hashes what passes."""

    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    classes: set[str] = field(default_factory=set)

    def add(self, one: ListedFile) -> None:
        self.count += 1
        self.digest.update(repr(tuple(one)).encode())
        if one.class_name is not None:
            self.classes.add(one.class_name)


class _Folders:
    """One file of every kind of place below a root, which is all that tells how it is sorted."""

    def __init__(self, root: str) -> None:
        self.root, self._examples = root, {}  # type: ignore[var-annotated]

    def add(self, file: str) -> None:
        path = PurePosixPath(file.removeprefix(f"{self.root}/"))
        if len(path.parts) < 2:
            return
        first, second = path.parts[:2]
        named = second if canonical_split(first) in _MEASURED else None
        self._examples[first, named, len(path.parts) < 3] = path

    def classes(self) -> tuple[tuple[str, ...], str, bool | None]:
        """Class names in sorted order, the root, and whether parts are named first."""
        examples = list(self._examples.values())
        try:
            split_first = is_split_first(self.root, examples) if examples else None
        except DataError:  # the tree can be read in two ways: it has no classes
            split_first = None
        if split_first is None:
            return (), self.root, None
        names = {as_text(class_and_split(path, split_first)[0]) for path in examples}
        found = tuple(sorted(name for name in names if name is not None))
        return found, self.root, split_first if found else None


@contextmanager
def _writing(table: Path | None) -> Iterator[Callable[[list[ListedFile]], None]]:
    """Writes lists of files as row groups of a table, which is there at the end or not at all."""
    if table is None:
        yield lambda some: None
        return
    arrow, parquet = import_parquet()
    kinds = [arrow.binary(), arrow.string(), arrow.string()]  # a name of a file may be no text
    schema = arrow.schema(list(zip(_COLUMNS, kinds, strict=True)))
    with replacing(table) as temporary, parquet.ParquetWriter(temporary, schema) as file:

        def write(some: list[ListedFile]) -> None:
            files, *others = zip(*some, strict=True)
            columns = zip([list(map(os.fsencode, files)), *others], kinds, strict=True)
            arrays = [arrow.array(column, kind) for column, kind in columns]
            file.write_table(arrow.Table.from_arrays(arrays, schema=schema))

        yield write


# Sources -----------------------------------------------------------------------------------------


def _name(source: str | Path) -> str:
    """What a source is called, whatever it is given as."""
    name = str(source) if is_address(source) else Path(source).as_posix()
    return name.rstrip("/") or "/"


def _root(sources: list[str]) -> str | None:
    """The only source, if it is a folder."""
    if len(sources) != 1:
        return None
    (source,) = sources
    if not is_address(source):
        return source if Path(source).is_dir() else None
    system, place = file_system(source)
    return address_of(system, place) if system.isdir(place) else None


def _listed(source: str, output: Path | None) -> Iterator[ListedFile]:
    if is_embedded(source) or Path(source).suffix.lower() == ".npz":
        raise ConfigError(
            f"{source} is a data set, not files: a folder of shards is for meshes and scans; leave "
            "`features` out, or write one file, as `output` features.npz"
        )
    if Path(source).suffix.lower() == _TABLE:
        yield from _of_table(source)
        return
    files = _of_address(source) if is_address(source) else _of_path(source, output)
    empty = True
    for file in files:
        empty = False
        yield ListedFile(_name(file))
    if empty:
        known = ", ".join(sorted(SHAPE_SUFFIXES))
        raise DataError(f"{source}: no mesh or scan is there; known file types: {known}")


def _of_path(source: str, output: Path | None) -> Iterator[str | Path]:
    path = Path(source)
    if path.is_dir():
        files = walk_files(path, output)
        yield from (file for file in files if _is_shape(file, file == path / PART_NAMES))
    elif not path.exists() and glob.has_magic(source):
        found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - a path with a pattern
        own = None if output is None else Path(os.path.realpath(output))
        for name in found:
            if _is_shape(Path(name)) and own not in Path(os.path.realpath(name)).parents:
                yield name
    else:
        yield path  # if it is not there, that is its error


def _of_address(source: str) -> Iterator[str]:
    system, place = file_system(source)
    names: Iterable[str] = [place]
    if glob.has_magic(source):
        names = (name for name in sorted(system.glob(place)) if _is_shape(PurePosixPath(name)))
    elif system.isdir(place):
        inside = walk_address(system, place)
        names = (name for name in inside if _is_visible_shape(name, place))
    yield from (address_of(system, name) for name in names)


def _is_visible_shape(name: str, root: str) -> bool:
    path = PurePosixPath(name.removeprefix(f"{root}/"))
    return _is_shape(path, str(path) == PART_NAMES) and not any(map(hidden, path.parts))


def _is_shape(path: Path | PurePosixPath, is_part_names: bool = False) -> bool:
    return path.suffix.lower() in SHAPE_SUFFIXES and not is_part_names


def _of_table(source: str) -> Iterator[ListedFile]:
    """The rows of a table, some at a time."""
    arrow, parquet = import_parquet()
    try:
        system, place = file_system(source)
        with system.open(place, "rb") as opened, parquet.ParquetFile(opened) as file:
            names = file.schema_arrow.names
            if "file" not in names:
                raise DataError(
                    f"columns {names}: expected `file`, with `class` and `split` or not"
                )
            wanted = [name for name in _COLUMNS if name in names]
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    yield _of_row(row)
    except (OSError, arrow.ArrowException, DataError) as error:
        raise DataError(f"{source}: {error}; expected a table of files") from error


def _of_row(row: dict[str, Any]) -> ListedFile:
    file, class_name, split = (row.get(key) for key in _COLUMNS)
    if not isinstance(file, str | bytes) or not file:
        raise DataError(f"a row names no file: {row}")
    file = os.fsdecode(file)
    if split is not None and (stated := canonical_split(str(split))) is None:
        raise DataError(f"split {split!r} of {file}: expected train, val, test or unlabelled")
    name = None if class_name is None else class_spelling(class_name)
    return ListedFile(_name(file), name, None if split is None else stated)
