"""Few-shot episodes: the published ones, and new ones made from any labelled data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from pointpeft.data.benchmarks.benchmark import BenchmarkSplit
from pointpeft.data.benchmarks.modelnet import MODELNET40
from pointpeft.data.benchmarks.source_files import Expected, Layout, as_integer
from pointpeft.data.pickles import read_pickle
from pointpeft.data.shape_data import ShapeSplit
from pointpeft.errors import DataError

__all__ = [
    "EPISODES",
    "Episode",
    "make_episode",
    "read_episode",
    "refuse_episodes",
]

EPISODES = Layout(
    title="ModelNetFewshot, few-shot episodes of ModelNet40,",
    folder="ModelNetFewshot",
    tree=(
        Expected("*way_*shot/*.pkl", "a file for each episode: <way>way_<shot>shot/<fold 0-9>.pkl"),
    ),
    owner="https://github.com/lulutang0608/Point-BERT",
)
"""The published episodes."""
_CONTENT = """expected a pickle of
{"train": [(points (N, 6), label 0 to way - 1, class 0 to 39), ...], "test": [...]}"""

SplitT = TypeVar("SplitT", BenchmarkSplit, ShapeSplit)


@dataclass(frozen=True)
class Episode(Generic[SplitT]):
    """A small classification task.

    Attributes:
        train: Its shapes to learn from, with labels 0 to way - 1.
        test: Its shapes to measure on, with the same labels.
        classes: For each label, the class in the data that the episode is made from.
    """

    train: SplitT
    test: SplitT
    classes: tuple[int, ...]


def read_episode(root: str | Path, way: int, shot: int, fold: int) -> Episode[BenchmarkSplit]:
    """Read a published episode of ModelNet40, as it is stored.

    Args:
        root: The folder of all data, or the folder of the episodes.
        way: Number of classes.
        shot: Training shapes of each class.
        fold: Number of the episode, 0 to 9.

    Raises:
        DataError: The episode is missing, damaged or of another form.
    """
    root = Path(root).expanduser()
    there = root if root.name == EPISODES.folder else root / EPISODES.folder
    folder = EPISODES.find(root) or there
    path = folder / f"{way}way_{shot}shot" / f"{fold}.pkl"
    if not path.is_file():
        found = ", ".join(file.stem for file in sorted(path.parent.glob("*.pkl")))
        folds = f"; folds there: {found}" if found else ""
        raise DataError(f"{path}: no such file{folds}; {EPISODES.expectation(folder)}")
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"train", "test"} <= content.keys():
        raise DataError(f"{path}: no 'train' and 'test'; {_CONTENT}")
    classes = _classes(path, [*_rows(path, content["train"]), *_rows(path, content["test"])], way)
    names = tuple(MODELNET40.class_names[number] for number in classes)
    train, test = (_split(path, part, content[part], names) for part in ("train", "test"))
    return Episode(train, test, classes)


def refuse_episodes(path: Path) -> None:
    """Refuse the folder of published episodes, or its place, where a data set is asked for.

    Raises:
        DataError: It says what episodes are for, or where they are expected.
    """
    if path.is_dir() and EPISODES.find(path) == path:
        raise DataError(
            f"{path}: holds few-shot episodes, each a task of its own; finetune takes them with "
            "few_shot.way and few_shot.shot"
        )
    if path.name == EPISODES.folder:
        raise DataError(f"{path}: {EPISODES.expectation(path)}")


def make_episode(
    train: ShapeSplit,
    test: ShapeSplit,
    way: int,
    shot: int,
    queries: int = 20,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> Episode[ShapeSplit]:
    """Draw an episode from labelled shapes, as the published ones were drawn.

    Args:
        train: Where training shapes come from.
        test: Where test shapes come from.
        way: Number of classes, drawn at random from those of `train`.
        shot: Training shapes of each class.
        queries: Test shapes of each class.
        seed: Of all choices.
        class_names: Of the labels, for messages.

    Raises:
        DataError: There are too few classes, or one that was drawn has too few shapes.
    """
    if min(way, shot, queries) < 1:
        raise DataError(f"way={way}, shot={shot}, queries={queries}: expected at least 1 of each")
    known = np.unique(train.labels[train.labels >= 0])
    if len(known) < way:
        raise DataError(f"way={way}: there are only {len(known)} classes to train on")
    generator = np.random.default_rng(seed)
    classes = generator.choice(known, way, replace=False)
    splits = []
    for what, split, number in (("training", train, shot), ("test", test, queries)):
        places = []
        for label in classes:
            candidates = np.flatnonzero(split.labels == label)
            if len(candidates) < number:
                name = class_names[label] if class_names else f"class {label}"
                raise DataError(
                    f"{name}: {len(candidates)} {what} shapes, the episode needs {number}; "
                    "take another seed or leave the class out"
                )
            places.append(generator.choice(candidates, number, replace=False))
        labels = np.repeat(np.arange(way, dtype=np.int64), number)
        splits.append(replace(split.subset(np.concatenate(places)), labels=labels))
    return Episode(splits[0], splits[1], tuple(map(int, classes)))


def _rows(path: Path, rows: Any) -> list[tuple[int, int]]:
    """Label and original class of each shape of an episode's part."""
    try:
        return [(as_integer(label), as_integer(original)) for _, label, original in rows]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: no list of shapes ({error}); {_CONTENT}") from error


def _classes(path: Path, rows: Sequence[tuple[int, int]], way: int) -> tuple[int, ...]:
    """The original class of each label."""
    found = sorted(set(rows))
    if [label for label, _ in found] != list(range(way)):
        raise DataError(f"{path}: labels and classes {found}; expected one class per label, {way}")
    known = len(MODELNET40.class_names)
    strange = [original for _, original in found if not 0 <= original < known]
    if strange:
        raise DataError(f"{path}: class {strange[0]}; expected 0 to {known - 1}")
    return tuple(original for _, original in found)


def _split(path: Path, part: str, rows: Any, names: tuple[str, ...]) -> BenchmarkSplit:
    clouds = [np.asarray(points) for points, _, _ in rows]
    labels = np.array([label for label, _ in _rows(path, rows)], dtype=np.int64)
    lacking = sorted(set(range(len(names))) - set(labels.tolist()))
    if lacking:
        raise DataError(f"{path}: no {part} shape of {names[lacking[0]]} (label {lacking[0]})")
    if any(each.shape != clouds[0].shape or each.dtype.kind != "f" for each in clouds) or (
        clouds[0].ndim != 2 or clouds[0].shape[1] < 3
    ):
        raise DataError(f"{path}: {part} clouds differ or are no (N, 6) floats; {_CONTENT}")
    ids = tuple(f"{part}:{place}" for place in range(len(clouds)))
    points = np.stack([each[:, :3] for each in clouds]).astype(np.float32)
    return BenchmarkSplit(points, labels, ids, names)
