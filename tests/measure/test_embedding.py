"""One feature for every shape, whatever it comes from, and by the same model or not at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.measure.analysis import model_outputs
from pointpeft.measure.scores import extract_features
from pointpeft.measure.shape_sources import ShapeSource
from tests.documented import few_homeobjects
from tests.training.conftest import (  # noqa: F401 - shared fixtures
    archive,
    finetune_config,
    light_runs,
    run_finetune,
    weights,
)
from tests.training.support import CLASSES, write_meshes


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    return write_meshes(tmp_path_factory.mktemp("meshes"), dict.fromkeys(CLASSES, 3))


@pytest.fixture
def index(meshes, weights):  # noqa: F811
    return pp.embed(meshes, checkpoint=weights, device="cpu")


def test_a_folder_has_a_unit_feature_class_and_path_for_every_file(index):
    assert index.features.shape == (12, 24)
    assert index.features.dtype == np.float16
    lengths = np.linalg.norm(index.features.astype(float), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)
    assert index.ids[0] == "box/box_00.off"
    assert index.class_names == CLASSES
    assert [index.class_of(place) for place in range(12)] == list(np.repeat(CLASSES, 3))
    assert not index.problems


def test_features_are_the_retrieval_features_of_the_backbone(archive, weights):  # noqa: F811
    found = pp.embed(archive, checkpoint=weights, device="cpu", batch_size=5)
    backbone = pp.create_model("point_mae_small", checkpoint=weights)
    data = pp.load_shapes(archive, found.model.transform, num_stored=2048)
    expected = extract_features(backbone, torch.from_numpy(data.test.points)[:, :1024])
    places = [found.ids.index(id) for id in data.test.ids]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.features[places], expected, atol=2e-3)
    names = [found.class_of(place) for place in places]
    assert names == [data.class_names[label] for label in data.test.labels]


def test_the_batch_changes_nothing_but_rounding(meshes, weights, index):  # noqa: F811
    alone = pp.embed(meshes, checkpoint=weights, device="cpu", batch_size=1)
    np.testing.assert_allclose(alone.features, index.features, atol=1e-3)


def test_weights_that_do_not_come_along_are_asked_for(index, meshes):
    with pytest.raises(CheckpointError, match="checkpoint"):
        pp.embed(meshes / "torus/torus_01.off", like=index, device="cpu")


def test_queries_are_embedded_like_the_index(index, meshes, weights):  # noqa: F811
    files = [meshes / "torus/torus_01.off", meshes / "box"]
    queries = pp.embed(files, like=index, checkpoint=weights, device="cpu")
    assert queries.ids[0] == files[0].as_posix()
    assert [index.ids[place] for place in index.search(queries, top=1).places[:, 0]] == [
        "torus/torus_01.off", "box/box_00.off", "box/box_01.off", "box/box_02.off",
    ]  # fmt: skip


def test_other_weights_are_refused_with_both_hashes(index, meshes, tmp_path):
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    sizes = {k: v for k, v in index.model.sizes.items() if k != "num_points"}
    model = pp.create_model("point_mae_small", **sizes)
    pp.save_model(model, other)
    with pytest.raises(CheckpointError) as error:
        pp.embed(meshes, like=index, checkpoint=other, device="cpu")
    assert index.model.weights[:16] in str(error.value)
    queries = pp.embed(meshes, checkpoint=other, device="cpu")
    assert queries.model.weights[:16] in str(error.value)
    with pytest.raises(ConfigError, match="compared"):
        index.search(queries)


def test_an_index_comes_back_from_a_file(index, tmp_path):
    index.save(tmp_path / "f.npz")
    again = pp.Index.load(tmp_path / "f.npz")
    assert (again.model, again.source, again.ids) == (index.model, index.source, index.ids)
    assert np.array_equal(again.search(index, 3).places, index.search(index, 3).places)


def test_an_index_names_no_place_elsewhere(index, meshes, tmp_path):
    """The folder of the shapes is found from the file, wherever both lie; an absolute path is read
    too, as older files have it.
    """
    index.save(tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as arrays:
        content = dict(arrays)
    about = json.loads(str(content["metadata"]))
    root = about["source"]["root"]
    assert not Path(root).is_absolute()
    assert (tmp_path / root).resolve() == meshes.resolve()
    assert str(meshes) not in str(content["metadata"])
    shutil.copytree(meshes, tmp_path / "there/meshes")
    moved = replace(index, source=ShapeSource(str(tmp_path / "there/meshes")))
    moved.save(tmp_path / "there/f.npz")
    (tmp_path / "there").rename(tmp_path / "here")
    found = pp.Index.load(tmp_path / "here/f.npz")
    (points,) = found.source.find(["box/box_01.off"], found.model.transform).values()
    assert points.shape == (1024, 3)
    about["source"]["root"] = str(meshes)
    np.savez(tmp_path / "f.npz", **content | {"metadata": np.array(json.dumps(about))})
    assert pp.Index.load(tmp_path / "f.npz").source == index.source


def test_a_damaged_description_is_refused(index, tmp_path):
    index.save(tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as arrays:
        content = dict(arrays)
    for old, new in (('"weights"', '"wights"'), ('"num_points"', '"points"'), ('"root"', '"r"')):
        content["metadata"] = np.array(str(content["metadata"]).replace(old, new, 1))
        np.savez(tmp_path / "f.npz", **content)
        with pytest.raises(DataError, match=r"f\.npz"):
            pp.Index.load(tmp_path / "f.npz")


def test_unreadable_files_are_left_out_and_named(meshes, weights, tmp_path):  # noqa: F811
    bad = tmp_path / "bad.stl"
    bad.write_text("not a mesh")
    files = [bad, meshes / "box/box_00.off", tmp_path / "none.obj"]
    found = pp.embed(files, checkpoint=weights, device="cpu")
    assert found.ids == (files[1].as_posix(),)
    assert [problem.item for problem in found.problems] == [str(bad), str(files[2])]
    assert all(problem.reason for problem in found.problems)
    with pytest.raises(DataError, match="bad"):
        pp.embed(bad, checkpoint=weights, device="cpu")


def test_a_data_set_stands_alone(meshes, archive, weights):  # noqa: F811
    with pytest.raises(DataError, match="alone"):
        pp.embed([meshes, archive], checkpoint=weights)


def test_the_embedded_set_and_weights_serve_without_a_file(monkeypatch):
    few = few_homeobjects()
    monkeypatch.setattr("pointpeft.data.embedded.load_homeobjects", lambda: few)
    found = pp.embed("homeobjects", device="cpu")
    assert len(found) == len(few.ids)
    assert found.source.root == "homeobjects"
    assert np.array_equal(found.labels, few.labels)
    shown = found.source.find(found.ids[:2], found.model.transform)
    assert all(points.shape == (1024, 3) for points in shown.values())


def test_shapes_are_found_again_or_said_to_be_gone(index, archive, weights, meshes):  # noqa: F811
    found = index.source.find(["box/box_01.off", "box/gone.off"], index.model.transform)
    assert found["box/box_01.off"].shape == (1024, 3)
    assert isinstance(found["box/gone.off"], str)
    stored = pp.embed(archive, checkpoint=weights, device="cpu")
    one, none = stored.source.find([stored.ids[3], "none"], stored.model.transform).values()
    assert one.shape == (1024, 3)
    assert isinstance(none, str)


def test_up_axis_turns_files_upright(weights, tmp_path):  # noqa: F811
    cloud = np.random.default_rng(0).normal(size=(300, 3)) * [1, 2, 3]
    np.savetxt(tmp_path / "y.xyz", cloud)
    np.savetxt(tmp_path / "z.xyz", cloud[:, [0, 2, 1]] * [1, -1, 1])
    index = pp.embed(tmp_path / "y.xyz", checkpoint=weights, device="cpu")
    given = {"like": index, "checkpoint": weights, "device": "cpu"}
    upright = pp.embed(tmp_path / "z.xyz", up_axis="z", **given)
    np.testing.assert_allclose(upright.features, index.features, atol=1e-3)
    assert index.search(pp.embed(tmp_path / "z.xyz", **given)).similarities[0, 0] < 0.9999


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"model": "point_bert_dvae"}, "model"),
        ({"model": "point_mae_smal"}, "point_mae_small"),
        ({"model": "point_mae", "adapter": "x"}, "model"),
    ],
)
def test_bad_settings_are_refused(meshes, settings, name):
    with pytest.raises(ConfigError, match=name):
        pp.embed(meshes, device="cpu", **settings)


def test_no_weights_are_never_random_ones(meshes):
    with pytest.raises(CheckpointError, match="point_mae"):
        pp.embed(meshes, "point_mae", device="cpu")


@pytest.mark.parametrize(("top", "threshold"), [(0, 0.9), (1, 0.0), (1, 1.1)])
def test_search_out_of_range_is_refused(index, top, threshold):
    with pytest.raises(ConfigError, match=r"top|threshold"):
        _ = index.search(index, top), index.duplicates(threshold)


def test_queries_of_other_channels_are_refused(index):
    with pytest.raises(ConfigError, match="queries"):
        index.search(np.zeros((1, 7)))


def test_duplicates_say_how_alike_they_are(index):
    (group,) = index.duplicates(1e-6)
    assert group.places.tolist() == list(range(12))
    np.testing.assert_allclose(group.similarities, index.search(index, 12).similarities[0][
        np.argsort(index.search(index, 12).places[0])], atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("method", ["bitfit", "svm"])
def test_an_adapter_gives_what_enters_its_head(run_finetune, meshes, tmp_path, method):  # noqa: F811
    run_finetune(f"method={method}", "trainer.epochs=1", name="run")
    found = pp.embed(meshes, adapter=tmp_path / "run", device="cpu")
    loaded = pp.Predictor(tmp_path / "run")
    shape = loaded.prepare(pp.data.read_shape(meshes / found.ids[4]))
    points = torch.from_numpy(shape.points)[None, : loaded.transform.num_points]
    expected = model_outputs(loaded.model, points).features[0]
    np.testing.assert_allclose(found.features[4], expected / np.linalg.norm(expected), atol=2e-3)
    queries = pp.embed(meshes / "box", like=found, adapter=tmp_path / "run", device="cpu")
    assert found.search(queries, 1).places[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="adapter"):
        pp.embed(meshes, like=found, device="cpu")


def test_another_adapter_is_refused(run_finetune, meshes, index, tmp_path):  # noqa: F811
    run_finetune("method=bitfit", "trainer.epochs=1", name="one")
    run_finetune("method=bitfit", "trainer.epochs=2", name="two")
    found = pp.embed(meshes, adapter=tmp_path / "one", device="cpu")
    with pytest.raises(CheckpointError) as error:
        pp.embed(meshes, like=found, adapter=tmp_path / "two", device="cpu")
    assert found.model.adapter[:16] in str(error.value)
    with pytest.raises(ConfigError, match="adapter"):
        pp.embed(meshes, like=index, adapter=tmp_path / "one", device="cpu")
