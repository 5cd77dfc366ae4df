"""A folder of shards: rows about the files of a corpus, which resuming adds to."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointpeft.data.addresses import is_address
from pointpeft.data.corpus.file_lists import FileList, ListedFile
from pointpeft.data.shards.index import import_parquet
from pointpeft.errors import ConfigError, DataError
from pointpeft.files import as_text, is_newer, replacing, write_json
from pointpeft.locations import relative_place

__all__ = ["FEATURES", "REMEDY", "SHARD_SIZE", "ShardFolder", "is_shard_folder"]

log = logging.getLogger("pointpeft")

FEATURES = "features"
"""Kind of rows that are searched."""

REMEDY = "make it with the command that began it: embed and predict with `resume`, svm with `data`"
"""What a message says of a shard that is missing or damaged."""

SHARD_SIZE = 1000
"""Files of a shard unless another number is asked for: at most their work is lost by a crash."""

# What begins with "_" is no data to those who read a folder of Parquet: Arrow, pandas, Spark.
_ABOUT, _FILES = "_corpus.json", "_files.parquet"
_VERSION, _TRIES = 1, 3


def is_shard_folder(path: str | Path) -> bool:
    """Whether there is a folder of shards, finished or not."""
    return (Path(path) / _ABOUT).is_file()


@dataclass(frozen=True)
class ShardFolder:
    """Shards of rows, ``part-00000.parquet`` and on, a row for each file.

    Attributes:
        path: of the folder.
        made_by: what all rows hang on besides the files, as plain values; its "kind" says what the
            rows are.
        files: the files.
        shard_size: files of a shard.
        place: where the files lie as seen from beside the folder, or an address.
    """

    path: Path
    made_by: Mapping[str, Any]
    files: FileList
    shard_size: int
    place: str

    @classmethod
    def begin(
        cls,
        path: str | Path,
        made_by: Mapping[str, Any],
        sources: Sequence[str | Path],
        shard_size: int | None = None,
        resume: bool = False,
    ) -> "ShardFolder":
        """Make a folder with its list of files, or go on with one.

        One in which a process was killed before it had that list is begun anew.

        Args:
            path: of the folder.
            made_by: see above.
            sources: as for :meth:`pointpeft.data.corpus.file_lists.FileList.make`.
            shard_size: by default 1,000, or as begun.
            resume: keep the shards that are there.

        Raises:
            ConfigError: there is something in the folder, or what is to be resumed was made by
                something else or of other files; or pyarrow is missing.
            DataError: no files are found, or the folder is damaged.
        """
        path = Path(path)
        if shard_size is not None and shard_size < 1:
            raise ConfigError(f"`shard_size` must be at least 1, got {shard_size}")
        if resume and is_shard_folder(path):
            return cls._go_on(path, made_by, sources, shard_size)
        if path.exists() and (not path.is_dir() or not all(map(_is_of_a_start, path.iterdir()))):
            more = ", or pass `resume` to go on with it" if is_shard_folder(path) else ""
            raise ConfigError(f"`output` {path} is there already: name another folder{more}")
        size = shard_size or SHARD_SIZE
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        for left in path.iterdir():
            left.unlink()
        try:
            files = FileList.make(sources, size, path / _FILES, path)
        except BaseException:
            if is_new:
                path.rmdir()
            raise
        root = files.root or "."
        within = str(Path(root).resolve())
        place = root if is_address(root) else relative_place(within, path.parent)
        about = {"version": _VERSION, "shard_size": size, "place": place, "made_by": dict(made_by)}
        write_json(path / _ABOUT, {**about, "files": files.to_dict()})
        return cls(path, made_by, files, size, place)

    @classmethod
    def open(cls, path: str | Path) -> "ShardFolder":
        """A folder that :meth:`begin` made.

        Raises:
            DataError: there is none, or it is damaged.
        """
        path = Path(path)
        if not is_shard_folder(path):
            raise DataError(f"{path} is no folder of shards: `pointpeft embed` writes such ones")
        try:
            about = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
            if about["version"] != _VERSION:
                raise DataError(f"version {about['version']}, this pointpeft knows {_VERSION}")
            files = FileList.from_dict(about["files"])
            size, place = int(about["shard_size"]), str(about["place"])
            return cls(path, about["made_by"], files, size, place)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}") from error

    @classmethod
    def _go_on(
        cls,
        path: Path,
        made_by: Mapping[str, Any],
        sources: Sequence[str | Path],
        shard_size: int | None,
    ) -> "ShardFolder":
        begun = cls.open(path)
        asked = json.loads(json.dumps(dict(made_by)))
        if changed := ", ".join(_differences(begun.made_by, asked)):
            raise ConfigError(
                f"`output` {path} was made by another model, or with other settings: {changed}; "
                "name another folder"
            )
        if shard_size not in (None, begun.shard_size):
            raise ConfigError(f"`shard_size` of {path} is {begun.shard_size}: leave it out")
        if FileList.make(sources, begun.shard_size, output=path).digest != begun.files.digest:
            raise ConfigError(
                f"`output` {path} was begun with other files than are there now: name another "
                "folder"
            )
        return begun

    @property
    def shards(self) -> int:
        """How many there are when all is done."""
        return -(-self.files.count // self.shard_size)

    def part(self, shard: int) -> Path:
        """The file of a shard, which is there when it is done."""
        return self.path / f"part-{shard:05d}.parquet"

    def missing(self) -> list[int]:
        """Shards that are not done."""
        there = {file.name for file in self.path.glob("part-*.parquet")}
        return [shard for shard in range(self.shards) if self.part(shard).name not in there]

    def was_killed(self) -> bool:
        """Whether a process that made shards ended in the middle of one, without an error."""
        return any(self.path.glob("part-*.tmp"))

    def tidy(self) -> None:
        """Remove what a process that was killed left of a shard; nobody may be writing."""
        for left in self.path.glob("part-*.tmp"):
            left.unlink(missing_ok=True)

    def check_done(self) -> None:
        """Refuse a folder that lacks shards.

        Raises:
            DataError: it does.
        """
        if missing := len(self.missing()):
            raise DataError(
                f"{self.path} has {self.shards - missing} of {self.shards} shards: {REMEDY}"
            )

    def size_of(self, shard: int) -> int:
        """Files of a shard."""
        return min(self.shard_size, self.files.count - shard * self.shard_size)

    def files_of(self, shard: int) -> list[ListedFile]:
        """The files of a shard.

        Raises:
            DataError: the list is missing or damaged.
        """
        return self.files.read(self.path / _FILES, shard)

    @contextmanager
    def attempt(self, shard: int, step: str = "try") -> Iterator[int]:
        """Note that a shard is begun, so that one which ends every process is not tried for ever.

        Yields how often it was begun before and not ended. An error ends it, and so does Ctrl-C.

        Args:
            shard: its number.
            step: of its making, where processes share the work.

        Raises:
            DataError: it was begun three times and never ended.
        """
        marks = [self.part(shard).with_suffix(f".{step}{number}.tmp") for number in range(_TRIES)]
        before = next((number for number, mark in enumerate(marks) if not mark.exists()), None)
        if before is None:
            first = self.files_of(shard)[0].file
            raise DataError(
                f"{self.part(shard)} was begun {_TRIES} times, and its process ended each time, "
                f"perhaps at one of the {self.size_of(shard)} files from {first} on, or for lack "
                "of memory"
            )
        marks[before].touch()
        try:
            yield before
        except GeneratorExit:  # nobody ended it
            raise
        except BaseException:
            self._forget(marks)
            raise
        self._forget(marks)

    def _forget(self, marks: Iterable[Path]) -> None:
        for mark in marks:
            mark.unlink(missing_ok=True)

    def write(self, shard: int, rows: Iterable[Mapping[str, Any]], schema: Any) -> None:
        """Write a shard, which is there as a whole or not at all."""
        arrow, parquet = import_parquet()
        with replacing(self.part(shard)) as temporary:
            table = arrow.Table.from_pylist(list(map(as_text, rows)), schema)
            parquet.write_table(table, temporary, write_page_checksum=True)

    def read(self, shard: int, columns: Sequence[str]) -> Any:
        """The Arrow table of a shard, with some of its columns.

        Raises:
            DataError: it is not there, or damaged.
        """
        arrow, parquet = import_parquet()
        try:
            with parquet.ParquetFile(self.part(shard), page_checksum_verification=True) as file:
                table = file.read(list(columns))
                if len(table) != self.size_of(shard):
                    raise DataError(f"{len(table)} rows of {self.size_of(shard)} files")
                if lacking := set(columns) - set(table.column_names):
                    raise DataError(f"no column {' or '.join(sorted(lacking))}")
                return table
        except (OSError, arrow.ArrowException, DataError) as error:
            raise DataError(f"{self.part(shard)} is damaged: {error}; {REMEDY}") from error

    def failed(self, shard: int) -> int:
        """Files of a shard that could not be used.

        Raises:
            DataError: it is not there, or damaged.
        """
        errors = self.read(shard, ["error"])["error"]
        return len(errors) - int(errors.null_count)

    def done(self, columns: Sequence[str]) -> dict[int, int]:
        """By shards that need not be made, how many of their files could not be used.

        One that is damaged is to be made again, and so is one of a file that has changed since, and
        one whose features have another length than those of most shards. Of files at an address
        that is not known.

        Args:
            columns: of every shard, "error" among them; all are read.
        """
        there = set(range(self.shards)) - set(self.missing())
        found, lengths = {}, {}
        for shard in sorted(there):
            try:
                table = self.read(shard, columns)
            except DataError as error:
                log.warning("%s", error)
                continue
            if changed := self._changed(shard):
                log.warning("%s has changed: %s is made again", changed, self.part(shard))
                continue
            found[shard] = len(table) - int(table["error"].null_count)
            lengths[shard] = _feature_lengths(table)
        for shard in _unlike_most(lengths):
            log.warning("%s has features of another length: it is made again", self.part(shard))
            del found[shard]
        return found

    def _changed(self, shard: int) -> str | None:
        """A file of a shard that was written after it."""
        made = self.part(shard).stat().st_mtime
        return next((one.file for one in self.files_of(shard) if is_newer(one.file, made)), None)


def _is_of_a_start(file: Path) -> bool:
    """Whether a file is all that a process leaves that was killed while it listed the files."""
    begun = file.name.startswith((f"{_FILES}.", f"{_ABOUT}.")) and file.suffix == ".tmp"
    return file.name == _FILES or begun


def _feature_lengths(table: Any) -> frozenset[int | None]:
    """How many numbers the features of usable rows have; of rows without features, none."""
    if "feature" not in table.column_names:
        return frozenset()
    usable = table["feature"].filter(table["error"].is_null()).combine_chunks()
    return frozenset(usable.value_lengths().to_pylist())


def _unlike_most(lengths: Mapping[int, frozenset[int | None]]) -> list[int]:
    """Shards whose features have not the one length that is the most frequent."""
    known = Counter(each for each in lengths.values() if len(each) == 1 and None not in each)
    fine = {frozenset[int | None](), *(each for each, _ in known.most_common(1))}
    return [shard for shard, each in lengths.items() if each not in fine]


def _differences(before: object, now: object, key: str = "") -> Iterator[str]:
    """What is different in plain values, by the names of the settings."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            place = f"{key}.{name}" if key else name
            yield from _differences(before.get(name), now.get(name), place)
    elif before != now:
        yield f"{key} was {before!r} and is {now!r}"
