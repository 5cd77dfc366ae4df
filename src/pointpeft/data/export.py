"""Write labelled data sets as folders of clouds, for people to look at and to start from."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pointpeft.data.parts import PART_NAMES
from pointpeft.data.procedural import procedural_shape
from pointpeft.data.shape_data import ShapeData
from pointpeft.errors import DataError
from pointpeft.files import file_name

__all__ = ["export_folder", "export_procedural"]

_LONGEST = 200
"""Bytes of a name without number and suffix; file systems take 255."""


def export_folder(data: ShapeData, folder: str | Path) -> int:
    """Write ``<folder>/<split>/<class>/<item>.xyz`` for every labelled shape.

    The result is itself a data set that :func:`pointpeft.load_shapes` reads.

    Args:
        data: what to write; its prepared clouds are written as text, one point a line, with the
            part label as the last column where there are part labels.
        folder: a new or empty folder.

    Returns:
        The number of files written.

    Raises:
        DataError: the folder is not empty.
    """
    folder = _new_folder(folder, data.part_names)
    folders = _distinct(name if _is_plain(name) else file_name(name) for name in data.class_names)
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        for place, file in enumerate(_distinct(map(file_name, part.ids))):
            target = folder / name / folders[part.labels[place]] / f"{file}.xyz"
            seg = None if part.seg is None else part.seg[place]
            _write_cloud(target, part.points[place], seg)
    return len(data.train) + len(data.val) + len(data.test)


def export_procedural(
    folder: str | Path,
    programs: Sequence[str] = ("seat", "table"),
    count: int = 40,
    num_points: int = 2048,
    seed: int = 0,
) -> int:
    """Write procedural shapes with part labels as ``<folder>/<program>/<number>.xyz``.

    A line is ``x y z part``; ``parts.txt`` names the parts as "program/part", in label order.

    Args:
        folder: a new or empty folder.
        programs: one category each, see :data:`pointpeft.data.procedural.PROGRAMS`.
        count: shapes of each.
        num_points: points of each shape.
        seed: of the shapes.

    Returns:
        The number of files written.

    Raises:
        DataError: the folder is not empty, a program is unknown, or a number is too small.
    """
    if count < 1:
        raise DataError(f"count={count}: expected one shape of each program or more")
    shapes = [
        (program, number, procedural_shape(number, seed, num_points, program))
        for program in programs
        for number in range(count)
    ]
    names = sorted({f"{program}/{part}" for program, _, shape in shapes for part in shape.parts})
    folder = _new_folder(folder, names)
    label = {name: place for place, name in enumerate(names)}
    for program, number, shape in shapes:
        labels = np.array([label[f"{program}/{part}"] for part in shape.parts])
        _write_cloud(folder / program / f"{number:04d}.xyz", shape.points, labels[shape.seg])
    return len(shapes)


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, numbered where one occurs again; also where only the case of letters differs.

    They are cut to what every file system takes.
    """
    found: dict[str, str] = {}
    for given in names:
        plain = given.encode(errors="replace")[:_LONGEST].decode(errors="ignore")
        spellings = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        name = next(name for name in spellings if name.casefold() not in found)
        found[name.casefold()] = name
    return list(found.values())


def _is_plain(name: str) -> bool:
    """Whether a folder can have this name, lie where it is meant to and be seen there."""
    return not name.startswith(".") and bool(name.strip()) and not set(name) & set("/\\\0")


def _new_folder(folder: str | Path, part_names: Sequence[str]) -> Path:
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; name a new one to export into")
    folder.mkdir(parents=True, exist_ok=True)
    if part_names:
        (folder / PART_NAMES).write_text("\n".join(part_names) + "\n", encoding="utf-8")
    return folder


def _write_cloud(path: Path, points: np.ndarray, seg: np.ndarray | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [] if seg is None else [seg]
    formats = ["%.5f"] * 3 + ["%d"] * len(labels)
    np.savetxt(path, np.column_stack([points, *labels]), fmt=formats)
