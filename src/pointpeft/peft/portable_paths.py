"""Paths in the files of an adapter, written so that they hold after the files were moved."""

from pathlib import Path

__all__ = ["find_path", "portable_path"]

_BELOW = "./"
"""Begins a path below some folder that the adapter's is below too."""


def portable_path(path: str, folder: Path) -> str:
    """A path as it is written into a file in ``folder``.

    Args:
        path: an absolute one is cut down to what it is below the nearest folder that ``folder`` is
            below as well, and written as "./ckpts/pretrain.pth": so it survives when that folder
            is moved, or ``folder`` within it. Absolute stays what shares nothing but the root, and
            names and relative paths stay as they are.
        folder: need not exist.
    """
    target = Path(path)
    shared = (above for above in folder.resolve().parents if target.parent.is_relative_to(above))
    nearest = next(shared, None)
    if not target.is_absolute() or nearest is None or nearest == Path(nearest.anchor):
        return path
    return _BELOW + target.relative_to(nearest).as_posix()


def find_path(written: str, folder: Path) -> str:
    """The absolute path that :func:`portable_path` was given, wherever ``folder`` is now.

    As it was written where nothing is there, or where it was a name or absolute.
    """
    within: tuple[Path, ...] = ()
    if written.startswith(_BELOW):
        within = tuple(folder.resolve().parents)
    elif written.startswith("../"):
        within = (folder.resolve(),)
    found = (path for above in within if (path := above / written).exists())
    return next((str(path.resolve()) for path in found), written)
