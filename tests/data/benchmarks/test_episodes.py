import pickle
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import ShapeSplit, load_shapes
from pointpeft.data.benchmarks import make_episode, read_episode
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts


def shapes(counts: list[int], start: int = 0) -> ShapeSplit:
    """As many shapes of each label; every point of a shape names its label and number."""
    labels = np.repeat(np.arange(len(counts)), counts)
    numbers = start + np.arange(len(labels))
    points = np.stack([labels, numbers, numbers], axis=1)[:, None, :].repeat(4, axis=1)
    return ShapeSplit(points.astype(np.float32), labels, tuple(map(str, numbers)))


@pytest.mark.parametrize("below", ["", "ModelNetFewshot"])
def test_episode_has_labels_and_original_classes(tmp_path: Path, below: str) -> None:
    path = layouts.write_episode(tmp_path)
    episode = read_episode(tmp_path / below, 3, 4, 0)
    assert episode.classes == (30, 29, 28)
    assert episode.train.class_names == ("sofa", "sink", "range_hood")
    assert episode.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert episode.test.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    stored = pickle.loads(path.read_bytes())["test"]
    assert np.array_equal(episode.test.points, np.stack([row[0][:, :3] for row in stored]))


def test_missing_episode_shows_where_it_is_expected(tmp_path: Path) -> None:
    layouts.write_episode(tmp_path)
    with pytest.raises(DataError, match=r"1\.pkl.*\b0;.*ModelNetFewshot"):
        read_episode(tmp_path, 3, 4, 1)
    with pytest.raises(DataError, match=r"5way_10shot.0\.pkl.*ModelNetFewshot"):
        read_episode(tmp_path, 5, 10, 0)
    folder = tmp_path / "other/ModelNetFewshot"
    for load in (load_shapes, lambda path: read_episode(path, 5, 10, 0)):
        with pytest.raises(DataError, match=r"(?s)<way>way_<shot>shot.*<-- missing.*Point-BERT"):
            load(folder)
    with pytest.raises(DataError, match=r"few_shot\.way"):
        load_shapes(tmp_path / "ModelNetFewshot")


CLOUD = np.zeros((5, 6), np.float32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "'train' and 'test'"),
        ({"train": [CLOUD], "test": []}, "no list of shapes"),
        ({"train": [(CLOUD, 0, 3)], "test": [(CLOUD, 0, 3)]}, "one class per label, 2"),
        ({"train": [(CLOUD, 0, 3), (CLOUD, 1, 4)], "test": [(CLOUD, 0, 4)]}, "one class per label"),
        ({"train": [(CLOUD, 0, 3), (CLOUD, 1, 40)], "test": [(CLOUD, 0, 3)]}, "class 40"),
        ({"train": [(CLOUD, 0, 3), (CLOUD, 1, 4)], "test": [(CLOUD, 0, 3)]}, "no test shape"),
        (
            {"train": [(CLOUD, 0, 3), (CLOUD[1:], 1, 4)], "test": [(CLOUD, 0, 3), (CLOUD, 1, 4)]},
            "train clouds",
        ),
    ],
)
def test_wrong_episodes_are_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "ModelNetFewshot/2way_1shot/0.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=rf"0\.pkl: .*{reason}"):
        read_episode(tmp_path, 2, 1, 0)


def test_made_episode_draws_distinct_shapes_of_few_classes() -> None:
    train, test = shapes([9] * 6), shapes([30] * 6, start=1000)
    episode = make_episode(train, test, way=4, shot=3, queries=7, seed=5)
    assert len(set(episode.classes)) == 4
    assert episode.train.labels.tolist() == np.repeat(np.arange(4), 3).tolist()
    assert episode.test.labels.tolist() == np.repeat(np.arange(4), 7).tolist()
    for split in (episode.train, episode.test):
        assert len(set(split.ids)) == len(split)
        originals = split.points[:, 0, 0].astype(int)
        assert originals.tolist() == [episode.classes[label] for label in split.labels]
    assert all(int(id) >= 1000 for id in episode.test.ids)


def test_seed_decides_the_made_episode() -> None:
    train, test = shapes([20] * 8), shapes([30] * 8)
    first, again, other = (make_episode(train, test, 3, 2, seed=seed) for seed in (1, 1, 2))
    assert first.train.ids == again.train.ids
    assert (first.classes, first.train.ids) != (other.classes, other.train.ids)


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ([5, 2], [20, 20], "desk: 2 .* 3"),
        ([5, 5], [20, 4], "desk: 4 .* 20"),
        ([5], [20], "way=2.* 1 classes"),
    ],
)
def test_too_few_shapes_are_an_error(train: list[int], test: list[int], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        make_episode(shapes(train), shapes(test), 2, 3, class_names=("chair", "desk"))


def test_shapes_without_a_label_are_not_drawn() -> None:
    train, test = shapes([4, 4]), shapes([20, 20])
    unlabelled = ShapeSplit(train.points, np.full(8, -1), train.ids)
    with pytest.raises(DataError, match=r"way=2.* 0 "):
        make_episode(unlabelled, test, 2, 3)


@pytest.mark.parametrize("fold", [0, 1])
def test_real_layout(real: Path, fold: int) -> None:
    episode = read_episode(real, 5, 10, fold)
    assert episode.train.points.shape == (40, 2048, 3)
    assert episode.test.points.shape == (20, 2048, 3)
    assert len(set(episode.classes)) == 5
