"""What a folder of shards holds, as its `shards.json` says."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from pointpeft.data.prepare import InputTransform
from pointpeft.data.prepared_items import Problem
from pointpeft.data.shapes import SHARD_INDEX
from pointpeft.errors import DataError, check_sizes
from pointpeft.files import write_json
from pointpeft.optional import import_arrow

__all__ = ["BLOCK", "Shard", "ShardIndex", "import_parquet", "is_sharded"]

BLOCK = 256
"""Shapes of a row group, which are read together."""
_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One Parquet file.

    Attributes:
        file: Its name in the folder.
        shapes: How many it holds.
        size: Bytes.
        sha256: Of the file.
    """

    file: str
    shapes: int
    size: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """All shards of a folder, what they were made of and how.

    Attributes:
        source: What they were made of, a name or an absolute path.
        listing: Hash of what the source lists; with another one nothing is added.
        total: Shapes that the source lists.
        listed: How many of them are dealt with: written, or left out as problems.
        transform: How each shape was prepared; `num_points` are stored of each.
        seed: Of surface sampling.
        shard_size: Shapes of a full shard.
        shards: In their order.
        problems: Shapes that cannot be used.
        block: Shapes of a row group.
    """

    source: str
    listing: str
    total: int
    transform: InputTransform
    seed: int
    shard_size: int
    listed: int = 0
    shards: tuple[Shard, ...] = ()
    problems: tuple[Problem, ...] = ()
    block: int = BLOCK

    @property
    def shapes(self) -> int:
        """How many shapes there are in all shards."""
        return sum(shard.shapes for shard in self.shards)

    @property
    def complete(self) -> bool:
        """Whether all shapes of the source are dealt with."""
        return self.listed == self.total

    def write(self, folder: Path) -> None:
        """Write `shards.json`, whole or not at all."""
        about = asdict(self) | {"shapes": self.shapes, "complete": self.complete}
        write_json(folder / SHARD_INDEX, {"format_version": _VERSION, **about})

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """What `write` wrote.

        Raises:
            DataError: It is missing or damaged, or of a later version.
        """
        path = Path(folder).expanduser() / SHARD_INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.pop("format_version")
            if version == _VERSION:
                return cls._from_plain(content)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{path} cannot be read as an index of shards: {error}") from error
        raise DataError(
            f"{path} has format version {version}, this version of pointpeft reads {_VERSION}"
        )

    @classmethod
    def _from_plain(cls, content: dict[str, Any]) -> Self:
        shapes = content.pop("shapes")
        content.pop("complete")
        content["transform"] = InputTransform.from_dict(content["transform"])
        content["shards"] = tuple(Shard(**each) for each in content["shards"])
        content["problems"] = tuple(Problem(**each) for each in content["problems"])
        index = cls(**content)
        check_sizes(index, ["block", "shard_size"])
        check_sizes(index, ["total", "listed"], least=0)
        for shard in index.shards:
            check_sizes(shard, ["shapes"], prefix=f"{shard.file}: ")
        escapes = any(Path(shard.file).name != shard.file for shard in index.shards)
        if index.shapes != shapes or index.listed > index.total or escapes:
            raise ValueError("its numbers or names do not fit together")
        return index


def is_sharded(source: str | Path) -> bool:
    """Whether a data source is a folder of shards."""
    return (Path(source).expanduser() / SHARD_INDEX).is_file()


def import_parquet() -> tuple[ModuleType, ModuleType]:
    """Arrow, and its Parquet, which shards are written by.

    Raises:
        ConfigError: They are not installed.
    """
    return import_arrow("shards")
