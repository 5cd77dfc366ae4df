"""Verify benchmark data sets: all files are there, readable, and hold what was released."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointpeft.data.benchmarks.benchmark import BenchmarkDataset, Entries
from pointpeft.data.benchmarks.episodes import (
    EPISODES,
    read_episode,
    refuse_episodes,
)
from pointpeft.data.benchmarks.stored import DATASETS, find_datasets, get_dataset
from pointpeft.data.prepare import check_geometry
from pointpeft.data.prepared_items import Progress
from pointpeft.errors import DataError

__all__ = ["DatasetCheck", "SplitCheck", "check_benchmark"]

_QUERIES = 20
"""Test shapes of each class in a published episode."""
_FOLDS = 10
"""Published episodes of a kind."""


@dataclass(frozen=True)
class SplitCheck:
    """What was found of a split.

    Attributes:
        name: Such as "train".
        class_counts: Shapes of each class, in label order.
        released: Number of shapes that were published.
    """

    name: str
    class_counts: tuple[int, ...]
    released: int

    @property
    def count(self) -> int:
        """Shapes of all classes."""
        return sum(self.class_counts)


@dataclass(frozen=True)
class DatasetCheck:
    """What was found of a data set.

    Attributes:
        name: Of the data set.
        title: By which people know it.
        folder: Where it is.
        class_names: In label order.
        splits: Those that could be listed.
        problems: All that is missing or wrong, a line or paragraph each.
    """

    name: str
    title: str
    folder: Path
    class_names: tuple[str, ...]
    splits: tuple[SplitCheck, ...]
    problems: tuple[str, ...]


def check_benchmark(
    path: str | Path, variant: str | None = None, progress: Progress | None = None
) -> tuple[DatasetCheck, ...]:
    """Read every shape of the benchmark data sets in a folder, and count.

    Args:
        path: The folder of one or several benchmark data sets.
        variant: Name of a data set, to check that one alone.
        progress: Called with the number of shapes read of a split and their total.

    Raises:
        DataError: No benchmark data set is there.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        refuse_episodes(path)
        raise DataError(f"{path}: no such folder")
    if variant is not None:
        dataset = get_dataset(variant)
        return (_check(dataset, dataset.folder_in(path), progress),)
    checks = [_check(each, each.folder_in(path), progress) for each in find_datasets(path).values()]
    episodes = EPISODES.find(path)
    if episodes is not None:
        checks += [_check_episodes(path, kind) for kind in sorted(episodes.glob("*way_*shot"))]
    if not checks:
        known = "\n".join(f"  {each.folder}/  {each.title}" for each in DATASETS.values())
        raise DataError(
            f"{path}: no benchmark data set; expected one of these folders, or one that holds them:"
            f"\n{known}\n  {EPISODES.folder}/  few-shot episodes of ModelNet40"
        )
    return tuple(checks)


def _check(dataset: BenchmarkDataset, folder: Path, progress: Progress | None) -> DatasetCheck:
    problems: list[str] = []
    splits, class_names = [], dataset.class_names
    for name, released in dataset.counts.items():
        try:
            entries = dataset.entries(folder, name)
        except DataError as error:
            problems.append(str(error))
            continue
        class_names = entries.class_names
        counts = np.bincount(entries.labels, minlength=len(class_names))
        splits.append(SplitCheck(name, tuple(counts.tolist()), released))
        if len(entries) != released:
            problems.append(f"{name}: {len(entries):,} shapes, released {released:,}")
        problems += _bad_shapes(dataset, entries, progress)
    if class_names != dataset.class_names:
        problems.append(f"class names differ from the released {', '.join(dataset.class_names)}")
    distinct = tuple(dict.fromkeys(problems))  # one missing file can stop several splits
    return DatasetCheck(dataset.name, dataset.title, folder, class_names, tuple(splits), distinct)


def _bad_shapes(
    dataset: BenchmarkDataset, entries: Entries, progress: Progress | None
) -> Iterator[str]:
    """What is wrong with single shapes."""
    size = 0
    for place, (id, source) in enumerate(zip(entries.ids, entries.sources, strict=True)):
        try:
            points = dataset.cloud(source).points
        except DataError as error:
            yield str(error)
            continue
        finally:
            if progress is not None:
                progress(place + 1, len(entries))
        size = size or len(points)
        try:
            check_geometry(points)
        except DataError as error:
            yield f"{id}: {error}"
        if len(points) != size and not dataset.ragged:
            yield f"{id}: {len(points)} points, the first shape has {size}"


def _check_episodes(root: Path, kind: Path) -> DatasetCheck:
    """All folds of one number of classes and shots."""
    title = f"ModelNet40 few-shot {kind.name}"
    numbers = re.fullmatch(r"(\d+)way_(\d+)shot", kind.name)
    if numbers is None:
        problem = "expected a folder name such as 5way_10shot"
        return DatasetCheck(kind.name, title, kind, (), (), (problem,))
    way, shot = map(int, numbers.groups())
    there = [fold for fold in range(_FOLDS) if (kind / f"{fold}.pkl").is_file()]
    missing = sorted(set(range(_FOLDS)) - set(there))
    problems = [f"folds missing: {', '.join(map(str, missing))}"] if missing else []
    for fold in there:
        try:
            episode = read_episode(root, way, shot, fold)
        except DataError as error:
            problems.append(str(error))
            continue
        expected = {"train": (episode.train, shot), "test": (episode.test, _QUERIES)}
        for part, (split, number) in expected.items():
            problems += [f"fold {fold}: {problem}" for problem in split.unusable()]
            counts = np.bincount(split.labels, minlength=way)
            if (counts != number).any():
                seen = ", ".join(map(str, counts))
                problems.append(f"fold {fold}: {seen} {part} shapes by label, released {number}")
    return DatasetCheck(kind.name, title, kind, (), (), tuple(problems))
