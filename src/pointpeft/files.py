"""Writing files and folders so that a failure leaves what was there before."""

import json
import math
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pointpeft.errors import PointPeftError

__all__ = [
    "as_bytes",
    "as_text",
    "change_leaves",
    "file_name",
    "finite",
    "is_newer",
    "no_trace_if_refused",
    "replacing",
    "shown_path",
    "with_tuples",
    "write_json",
]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the name of ``path`` only on success.

    A full disk or a kill while writing leaves the previous file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be writing the same file, on this host or on another one.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def no_trace_if_refused(path: str | Path) -> Iterator[None]:
    """Take a folder that is made inside away again if what is inside is refused.

    Refused means an error that the user can act on, before a checkpoint was written. Then the
    corrected command may use the same folder.
    """
    path = Path(path)
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except PointPeftError:
        if new and not any(path.rglob("*.ckpt")):
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # another run may be in a folder above by now
                for folder in new[1:]:
                    folder.rmdir()
        raise


def file_name(text: str) -> str:
    """A name for a file or folder made of ``text``: letters, digits, "-" and "_" alone.

    So names that come from data or from somebody's adapter stay within the folder written to.
    """
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in text)
    return kept.strip("_") or "shape"


def is_newer(path: str | Path, than: float) -> bool:
    """Whether a file was written after a time, in seconds; not of one that is not there."""
    try:
        return Path(path).stat().st_mtime > than
    except (OSError, ValueError):  # ValueError: no path at all
        return False


def shown_path(path: str | Path) -> str:
    """A file as it is named from the working folder, and outside of it by its last part alone."""
    with suppress(ValueError):
        return str(Path(path).resolve().relative_to(Path.cwd()))
    return Path(path).name


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON; NaN and infinity, which JSON does not have, as null."""
    text = json.dumps(finite(content), indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that JSON or YAML gave, which know lists only, with tuples in place of lists."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}


def change_leaves(value: object, change: Callable[[object], object]) -> Any:
    """A value in which ``change`` was made of all that mappings and lists hold, at any depth.

    Tuples become lists.
    """
    if isinstance(value, Mapping):
        return {key: change_leaves(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [change_leaves(each, change) for each in value]
    return change(value)


def finite(value: object) -> Any:
    """A value in which None stands for every number that is not finite."""

    def known(leaf: object) -> object:
        return None if isinstance(leaf, float) and not math.isfinite(leaf) else leaf

    return change_leaves(value, known)


def as_bytes(text: str) -> bytes:
    """UTF-8 of a text to hash; names that only a file system can write have bytes of their own."""
    return text.encode("utf-8", "surrogatepass")


def as_text(value: object) -> Any:
    """A value whose texts are UTF-8: what only a file system can write is written out."""

    def written(leaf: object) -> object:
        return leaf.encode("utf-8", "backslashreplace").decode() if isinstance(leaf, str) else leaf

    return change_leaves(value, written)
