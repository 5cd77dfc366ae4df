"""Parts of new files: every point gets one, in the file's own frame, whatever the file is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

import pointpeft as pp
from pointpeft.data import InputTransform, PartTable, load_shapes, read_shape
from pointpeft.errors import ConfigError
from pointpeft.measure import PartPredictor, Predictor, part_predictor
from pointpeft.measure.part_predictor import PartPrediction, write_predictions
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.training.conftest import archive, light_runs, weights  # noqa: F401 - shared fixtures
from tests.training.parts import CATEGORIES, DEPTH, PART_NAMES, lamp, write_part_archive
from tests.training.support import TINY

SETTINGS = [*TINY, DEPTH, "task=part_segmentation", "method=linear", "trainer.epochs=2",
            "trainer.batch_size=4", "optimizer.warmup=0"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that knows the parts of lamps and mugs."""
    folder = tmp_path_factory.mktemp("parts")
    data = write_part_archive(folder / "parts.npz", 32)
    finetune(load_config(FinetuneConfig, [], [*SETTINGS, f"data.source={data}"]), folder / "run")
    return folder / "run"


@pytest.fixture
def scan(tmp_path):
    """A lamp of 500 points, far from the origin, and its parts."""
    points, seg = lamp(np.random.default_rng(77), 500)
    points = 3.0 * points + np.array([1e6, -2e6, 50.0])
    np.save(tmp_path / "scan.npy", points)
    return tmp_path / "scan.npy", points, seg


def test_every_point_of_a_scan_gets_a_part(trained, scan):
    file, points, seg = scan
    found = PartPredictor(trained).predict_file(file, "lamp")
    assert np.array_equal(found.points, points)
    assert found.seg.shape == seg.shape
    assert set(found.seg.tolist()) <= {0, 1, 2}
    assert (found.seg == seg).mean() > 0.7
    assert [name for name, _ in found.shares] == list(CATEGORIES["lamp"])
    assert sum(share for _, share in found.shares) == pytest.approx(1)
    assert found.shares[1][1] == (found.seg == 1).mean()


def test_the_category_limits_the_parts(trained, scan):
    found = PartPredictor(trained).predict_file(scan[0], "mug")
    assert set(found.seg.tolist()) <= {3, 4}


def test_points_are_sampled_on_a_mesh(trained, tmp_path):
    trimesh.creation.cylinder(0.5, 2.0).export(tmp_path / "rod.stl")
    found = PartPredictor(trained).predict_file(tmp_path / "rod.stl", "mug")
    assert found.points.shape == (128, 3)
    assert np.abs(found.points[:, 2]).max() <= 1 + 1e-6
    again = PartPredictor(trained).predict_file(tmp_path / "rod.stl", "mug")
    assert np.array_equal(found.seg, again.seg)


def several(folder):
    """Scans of several sizes, a mesh, and two files that cannot be used."""
    generator = np.random.default_rng(5)
    for number in range(4):
        np.save(folder / f"{number}.npy", lamp(generator, 200 + 100 * number)[0])
    trimesh.creation.cylinder(0.5, 2.0).export(folder / "rod.stl")
    np.save(folder / "nan.npy", np.full((50, 3), np.nan))
    np.save(folder / "point.npy", np.zeros((50, 3)))
    names = "0.npy", "nan.npy", "1.npy", "rod.stl", "2.npy", "gone.ply", "point.npy", "3.npy"
    return [folder / name for name in names]


@pytest.mark.parametrize("batch_size", [3, 32])
def test_batches_change_nothing(trained, tmp_path, batch_size):
    files, predictor = several(tmp_path), PartPredictor(trained)
    alone = [predictor.predict_file(file, "lamp") for file in files]
    found = list(predictor.stream(files, "lamp", batch_size))
    assert [one.error is None for one in found] == [
        True, False, True, True, True, False, False, True
    ]  # fmt: skip
    for one, other in zip(found, alone, strict=True):
        assert np.array_equal(one.points, other.points)
        assert np.array_equal(one.seg, other.seg)
        assert replace(one, points=None, seg=None) == replace(other, points=None, seg=None)


@pytest.mark.parametrize(("ahead", "batches"), [(2_000_000, [3, 2]), (399, [2, 1, 1, 1])])
def test_batches_are_bounded_by_clouds_and_by_points(
    trained, tmp_path, monkeypatch, ahead, batches
):
    several(tmp_path)
    files = [tmp_path / name for name in ("0.npy", "1.npy", "2.npy", "3.npy", "rod.stl")]
    predictor, seen = PartPredictor(trained), []
    predictor.model.register_forward_pre_hook(lambda model, given: seen.append(len(given[0])))
    monkeypatch.setattr(part_predictor, "_MOST_AHEAD", ahead)
    assert len(list(predictor.stream(files, "lamp", 3))) == 5
    assert seen == batches


@pytest.mark.parametrize("batch_size", [0, 1.5, True])
def test_a_batch_holds_a_cloud_or_more(trained, scan, batch_size):
    with pytest.raises(ConfigError, match="`batch_size`"):
        PartPredictor(trained).stream([scan[0]], "lamp", batch_size)


def test_an_unusable_file_is_an_error_of_its_prediction(trained, tmp_path):
    np.save(tmp_path / "nan.npy", np.full((50, 3), np.nan))
    (tmp_path / "text.ply").write_text("no ply")
    for name, word in (("nan.npy", "NaN"), ("text.ply", "not a PLY file"), ("gone.ply", "no such")):
        found = PartPredictor(trained).predict_file(tmp_path / name, "mug")
        assert name in found.error
        assert word in found.error
        assert len(found.points) == 0


def test_a_category_must_be_said_and_known(trained, scan):
    predictor = PartPredictor(trained)
    with pytest.raises(ConfigError, match=r"`category`.*lamp, mug"):
        predictor.predict_file(scan[0])
    with pytest.raises(ConfigError, match=r"'lmap'.*'lamp'.*lamp, mug"):
        predictor.predict_file(scan[0], "lmap")


def test_predictors_refuse_the_other_task(trained, archive, weights, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match="is for part_segmentation"):
        Predictor(trained)
    given = [f"checkpoint={weights}", f"data.source={archive}", "method=linear", "trainer.epochs=1"]
    finetune(load_config(FinetuneConfig, [], [*TINY, *given]), tmp_path / "classes")
    with pytest.raises(ConfigError, match="is for classification"):
        PartPredictor(tmp_path / "classes")


def test_a_segmenter_saved_by_hand_labels_parts(scan, tmp_path):
    parts = PartTable(PART_NAMES, {"lamp": (0, 1, 2), "mug": (3, 4)})
    model = pp.create_model("point_mae_small", num_parts=5, num_categories=2, pretrained=True)
    model = pp.get_peft_model(model, pp.LinearConfig())
    for wrong in (
        {"parts": PartTable(PART_NAMES[:4], parts.categories)},
        {"parts": parts, "class_names": ["mug", "lamp"]},
        {"class_names": ["lamp"]},
    ):
        with pytest.raises(ConfigError):
            model.save_pretrained(tmp_path / "refused", **wrong)
    assert not (tmp_path / "refused").exists()
    model.save_pretrained(tmp_path / "mine", input_transform=InputTransform(64), parts=parts)
    found = PartPredictor(tmp_path / "mine").predict_file(scan[0], "mug")
    assert set(found.seg.tolist()) <= {3, 4}


# Files -------------------------------------------------------------------------------------------


def prediction(file: str, category: str = "lamp", error: str | None = None) -> PartPrediction:
    points = np.random.default_rng(0).normal(size=(40, 3))
    return PartPrediction(file, category, points, np.arange(40) % 2, error=error)


def test_written_clouds_are_a_data_set(tmp_path: Path) -> None:
    several = [prediction("a/x.obj"), prediction("b/x.ply"), prediction("y.off", "mug")]
    written = write_predictions([*several, prediction("z.off", error="bad")], PART_NAMES, tmp_path)
    assert written == [
        tmp_path / "lamp/x.ply",
        tmp_path / "lamp/x-2.ply",
        tmp_path / "mug/y.ply",
        None,
    ]
    shape = read_shape(written[0], segmented=True)
    assert np.array_equal(shape.points, several[0].points)
    assert np.array_equal(shape.seg, several[0].seg)
    written[2].unlink()
    several[2].seg[:] = 3  # a part of mugs
    write_predictions([several[2]], PART_NAMES, tmp_path)
    data = load_shapes(tmp_path, InputTransform(32), segmented=True, val_fraction=0)
    assert data.problems == ()
    assert data.part_names == PART_NAMES
    assert len(data.train) == 3


@pytest.mark.parametrize("read", ["lamp/x.ply", "elsewhere/x.obj"])
def test_nothing_is_written_over(tmp_path: Path, read: str) -> None:
    """Neither what was read, nor what was found and perhaps corrected before."""
    file = tmp_path / "lamp/x.ply"
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(ConfigError, match=r"x\.ply"):
        write_predictions([prediction(str(tmp_path / read))], PART_NAMES, tmp_path)
    assert file.read_text() == "mine"


def test_shapes_with_other_parts_are_not_mixed_with(tmp_path: Path) -> None:
    (tmp_path / "parts.txt").write_text("cup/wall\ncup/handle\n")
    with pytest.raises(ConfigError, match=r"parts\.txt.*`output`"):
        write_predictions([prediction("x.obj")], PART_NAMES, tmp_path)
    assert (tmp_path / "parts.txt").read_text() == "cup/wall\ncup/handle\n"
    assert not (tmp_path / "lamp").exists()
