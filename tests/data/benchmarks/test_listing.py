from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes, load_unlabelled
from pointpeft.data.benchmarks import DATASETS, PART_IDS, list_benchmark
from pointpeft.errors import DataError
from tests.data.benchmarks import layouts

SMALL = InputTransform(num_points=16)


def test_published_folder_loads_with_its_parts(tmp_path: Path) -> None:
    layouts.write_modelnet(tmp_path, train=5)
    data = load_shapes(tmp_path, SMALL)
    assert data.class_names == layouts.CLASSES
    assert (len(data.train), len(data.val), len(data.test)) == (12, 3, 6)
    assert data.test.ids[0] == "bathtub_0005"
    assert data.problems == ()


def test_points_are_those_of_the_files(tmp_path: Path) -> None:
    folder = layouts.write_modelnet_h5(tmp_path)
    listing = list_benchmark(folder)
    assert listing is not None
    assert listing.stored_points == 25
    assert [item.split for item in listing.items] == ["train"] * 6 + ["test"] * 2
    data = load_shapes(folder, SMALL, class_names=DATASETS["modelnet40_h5"].class_names)
    assert data.train.points.shape[1] == 25


def test_classes_without_shapes_are_left_out_with_a_note(tmp_path: Path) -> None:
    layouts.write_modelnet_h5(tmp_path)
    listing = list_benchmark(tmp_path)
    assert listing is not None
    assert listing.class_names == ("bottle", "bowl", "car", "xbox")
    assert "airplane" in listing.notes[0]


def test_other_folders_are_not_recognised(mesh_folder: Path) -> None:
    assert list_benchmark(mesh_folder) is None
    layouts.write_lines(mesh_folder / "shape_names.txt", ["a"])
    assert list_benchmark(mesh_folder) is None


def test_several_data_sets_need_a_name(root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.variant") as caught:
        load_shapes(root, SMALL)
    for name in ("modelnet40", "modelnet40_h5", "scanobjectnn_pb_t50_rs", "shapenetpart"):
        assert name in str(caught.value)
    with pytest.raises(DataError, match="scanobjectnn_obj_bg, scanobjectnn_obj_only"):
        load_unlabelled(root / "ScanObjectNN", SMALL)


@pytest.mark.parametrize("variant", ["obj_only", "scanobjectnn_obj_only"])
def test_variant_names_a_data_set(root: Path, variant: str) -> None:
    for folder in (root, root / "ScanObjectNN"):
        data = load_shapes(folder, SMALL, variant=variant, val_fraction=0)
        assert (len(data.train), len(data.test)) == (5, 3)
        assert data.class_names == ("bag", "bin")
        assert data.title == "ScanObjectNN OBJ-ONLY"


def test_wrong_variants_are_refused(root: Path, mesh_folder: Path) -> None:
    with pytest.raises(DataError, match="'shapenet55'"):
        load_shapes(root, SMALL, variant="shapenet5")
    with pytest.raises(DataError, match="<-- missing"):
        load_shapes(mesh_folder, SMALL, variant="shapenet55")
    with pytest.raises(DataError, match=r"data\.variant='shapenet55'.*homeobjects"):
        load_shapes("homeobjects", SMALL, variant="shapenet55")


def test_pre_training_takes_the_training_split(root: Path) -> None:
    shapes = load_unlabelled(root / layouts.SHAPENET, SMALL)
    assert shapes.ids == ("03001627-b", "02691156-a", "03001627-a")
    assert shapes.labels.tolist() == [-1] * 3
    assert any("1 validation and test" in note for note in shapes.notes)


def test_stated_validation_split_is_kept(tmp_path: Path) -> None:
    folder = layouts.write_shapenetpart(tmp_path)
    data = load_shapes(folder, SMALL)
    assert data.val.ids == ("02691156/plane2",)
    assert (len(data.train), len(data.test)) == (4, 2)


def test_part_labels_come_along(tmp_path: Path) -> None:
    data = load_shapes(layouts.write_shapenetpart(tmp_path), SMALL, segmented=True)
    assert data.part_names[12] == "Chair/12"
    for split in (data.train, data.val, data.test):
        assert split.seg is not None
        for label, seg in zip(split.labels, split.seg, strict=True):
            assert set(seg.tolist()) <= set(PART_IDS[data.class_names[label]])


def test_damaged_shapes_are_reported_by_their_id(tmp_path: Path) -> None:
    folder = layouts.write_shapenet(tmp_path)
    np.save(folder / "shapenet_pc/03001627-a.npy", np.full((40, 3), np.nan))
    shapes = load_unlabelled(folder, SMALL)
    assert [problem.item for problem in shapes.problems] == ["03001627-a"]


@pytest.mark.parametrize(
    ("variant", "sizes"),
    [
        ("modelnet40", (38, 19)),
        ("pb_t50_rs", (150, 69)),
        ("shapenetpart", (22, 36)),
    ],
)
def test_real_layouts(real: Path, variant: str, sizes: tuple[int, int]) -> None:
    data = load_shapes(real, InputTransform(64), variant=variant, val_fraction=0, num_stored=64)
    assert (len(data.train), len(data.test)) == sizes
    assert data.problems == ()
