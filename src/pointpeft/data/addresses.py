"""Files by address, such as `s3://bucket/chair.glb`, beside those that this machine has."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pointpeft.data.gltf import buffer_files
from pointpeft.data.reading import RawShape, read_shape
from pointpeft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["address_of", "file_system", "is_address", "read_located", "walk_address"]


def is_address(name: object) -> bool:
    """Whether a name is an address with a protocol, as `s3://`, and not a path."""
    return "://" in str(name)


def file_system(address: str) -> tuple[Any, str]:
    """What reaches an address, by the library fsspec, and what the place is called there.

    Raises:
        ConfigError: The protocol is unknown, or its library is not installed.
    """
    import fsspec

    try:
        system, place = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{address} cannot be reached: {error}") from error
    return system, place


def address_of(system: "AbstractFileSystem", place: str) -> str:
    """The address of a place."""
    return str(system.unstrip_protocol(place))


def walk_address(system: "AbstractFileSystem", folder: str) -> Iterator[str]:
    """Places of all files below a folder, in an order that is always the same.

    The names in one folder, and in those above it, are in memory at a time.
    """
    found = sorted((one["name"].rstrip("/"), one["type"]) for one in system.ls(folder, detail=True))
    system.invalidate_cache(folder)  # it would keep all that was listed
    for name, kind in found:
        if kind != "directory":
            yield name
        elif name != folder.rstrip("/"):  # some storage lists a folder as its own content
            yield from walk_address(system, name)


def read_located(name: str) -> RawShape:
    """The shape of a file, which is a path or an address; of the latter a copy is read.

    Raises:
        DataError: As `read_shape`, or the address cannot be reached.
    """
    if not is_address(name):
        return read_shape(name)
    with TemporaryDirectory() as folder:
        local = Path(folder) / PurePosixPath(name).name
        try:
            system, place = file_system(name)
            system.get_file(place, str(local))
            for beside in _buffers(local):
                beside.parent.mkdir(parents=True, exist_ok=True)
                part = beside.relative_to(folder).as_posix()
                with suppress(FileNotFoundError):  # reading the shape says what is missing
                    system.get_file(f"{PurePosixPath(place).parent}/{part}", str(beside))
        except Exception as error:  # libraries of storage have errors of their own
            reason = str(error) or type(error).__name__
            raise DataError(f"{name}: cannot be fetched: {reason}") from error
        try:
            return replace(read_shape(local), source=name)
        except DataError as error:
            raise DataError(str(error).replace(str(local), name)) from error


def _buffers(path: Path) -> list[Path]:
    """Further files that a glTF file names, beside it or below."""
    if path.suffix.lower() not in (".gltf", ".glb"):
        return []
    try:
        return buffer_files(path)
    except (ValueError, AttributeError, TypeError, OSError):
        return []  # reading the shape says what is wrong
