"""A published data set is the same from its folder and from the archive converted from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointpeft.compat.clouds import load_as_published, load_unlabelled_as_published
from pointpeft.data import InputTransform, load_shapes
from pointpeft.data.benchmarks import DATASETS, convert_benchmark
from pointpeft.data.benchmarks.stored import find_stored
from pointpeft.errors import DataError
from pointpeft.training.config import DataConfig
from tests.data.benchmarks import layouts

SMALL = InputTransform(num_points=16)


@pytest.mark.parametrize(
    ("variant", "split"),
    [
        ("modelnet40", "train"),
        ("obj_bg", "test"),
        ("shapenet55", "whole"),
        ("shapenetpart", "trainval"),
    ],
)
def test_folder_and_archive_hold_the_same(root: Path, variant: str, split: str) -> None:
    convert_benchmark(root, root / "set.npz", variant)
    stored = find_stored(root, variant), find_stored(root / "set.npz", None)
    calls: list[tuple[int, int]] = []
    folder, archive = (
        each.read(split, lambda *call: calls.append(call)) for each in stored if each
    )
    assert folder.ids == archive.ids
    assert folder.class_names == archive.class_names
    assert folder.labels.tolist() == archive.labels.tolist()
    for one, other in zip(folder.points, archive.points, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(folder.parts or (), archive.parts or (), strict=True):
        assert np.array_equal(one, other)
    if variant != "obj_bg":  # whose file holds all shapes
        assert calls == [(done, len(folder)) for done in range(1, len(folder) + 1)]


def test_archive_follows_both_protocols(root: Path) -> None:
    convert_benchmark(root, root / "set.npz", "pb_t50_rs")
    for variant in (None, "pb_t50_rs", "scanobjectnn_pb_t50_rs"):
        published = load_as_published(DataConfig(root / "set.npz", variant), SMALL)
        assert published is not None
        assert len(published.class_names) == 15
        assert published.val is published.test
        honest = load_shapes(root / "set.npz", SMALL, variant=variant)
        assert len(honest.train) + len(honest.val) == len(published.train)
        assert honest.title == published.title == "ScanObjectNN PB-T50-RS"
        assert (honest.cut, published.cut) == ({"val"}, frozenset())

    def as_published(path: Path, _: object, variant: str) -> object:
        return load_as_published(DataConfig(path, variant), SMALL)

    for load in (load_shapes, as_published):
        with pytest.raises(DataError, match=r"shapenet55.*set\.npz.*scanobjectnn_pb_t50_rs"):
            load(root / "set.npz", SMALL, variant="shapenet55")


def test_file_of_ones_own_is_no_published_data_set(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    points = layouts.clouds(4, 20, 3)
    np.savez(path, points=points, label=[0, 0, 1, 1], names=["a", "b"])
    assert load_as_published(DataConfig(path), SMALL) is None
    assert load_unlabelled_as_published(path, None) is None
    with pytest.raises(DataError, match="obj_bg"):
        load_as_published(DataConfig(path, "obj_bg"), SMALL)


def test_large_clouds_are_reduced_as_the_published_code_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(DATASETS["modelnet40"], reduced_to=8)
    monkeypatch.setitem(DATASETS, "modelnet40", few)
    folder = layouts.write_modelnet(tmp_path)
    whole = load_as_published(DataConfig(folder), SMALL)
    assert whole is not None
    assert any("20 points" in note and "data convert" in note for note in whole.notes)
    convert_benchmark(folder, tmp_path / "set.npz")
    archive = find_stored(tmp_path / "set.npz", None)
    assert archive is not None
    stored, kept = few.read(folder, "train"), archive.read("train")
    assert kept.points.shape == (9, 8, 3)
    for all_points, points in zip(stored.points, kept.points, strict=True):
        places = (all_points[:, None] == points).all(axis=2).argmax(axis=0)
        assert len(set(places.tolist())) == 8
        distances = np.linalg.norm(all_points - all_points[places[0]], axis=1)
        assert distances.argmax() == places[1]


@pytest.mark.parametrize("wrong", [np.nan, 0.0])
def test_shape_that_no_model_can_see_is_named(tmp_path: Path, wrong: float) -> None:
    folder = layouts.write_shapenet(tmp_path)
    np.save(folder / "shapenet_pc/02691156-a.npy", np.full((40, 3), wrong))
    loads = (
        lambda: load_as_published(DataConfig(folder), SMALL),
        lambda: load_unlabelled_as_published(folder, None),
    )
    for load in loads:
        with pytest.raises(DataError, match=r"02691156-a: "):
            load()


def test_data_that_a_task_cannot_use_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"ShapeNet-55.* part"):
        load_as_published(DataConfig(root, "shapenet55"), SMALL, segmented=True)
    with pytest.raises(DataError, match="ShapeNetPart"):
        load_unlabelled_as_published(root, "shapenetpart")
