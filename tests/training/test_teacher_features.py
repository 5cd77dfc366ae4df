"""What a teacher sees of stored shapes is kept on disk."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from pointpeft.data import InputTransform, ShapeSplit
from pointpeft.data.shapes import load_unlabelled
from pointpeft.data.shards import load_sharded, write_shards
from pointpeft.errors import DataError
from pointpeft.models.objective import CloudTeacher
from pointpeft.training.processes import Share
from pointpeft.training.teacher_features import teacher_features
from pointpeft.vision import RandomTeacher, TransformersTeacher, make_views
from pointpeft.vision.views import ShadedViews
from tests.models.tiny import clouds
from tests.training.support import rows


def teacher(seed=0):
    return CloudTeacher(RandomTeacher(32, 8, 5, seed), make_views("shaded", 2))


def split(count=5, seed=0):
    points = clouds(count, seed=seed).numpy()
    return ShapeSplit(points, np.zeros(count, np.int64), tuple(map(str, range(count))))


def test_they_are_what_it_sees_and_are_kept(tmp_path, monkeypatch):
    found = teacher_features(teacher(), split(), tmp_path)
    seen = teacher()(torch.from_numpy(split().points))
    torch.testing.assert_close(found.float(), seen, rtol=2e-2, atol=2e-3)
    assert found.dtype == torch.float16
    monkeypatch.setattr(CloudTeacher, "forward", None)  # looking again would fail
    assert torch.equal(teacher_features(teacher(), split(), tmp_path), found)


def features_file(value, count=5, kind=np.float16):
    file = io.BytesIO()
    np.savez(file, features=np.full(count, value, kind))
    return file.getvalue()


def flipped(content):
    """One bit of the features is another."""
    place = content.index(b"\x93NUMPY") + 130
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_every_shape_is_looked_at_once_in_whatever_company(tmp_path, monkeypatch):
    found = teacher_features(teacher(), split(), tmp_path)
    looked = []
    look = CloudTeacher.forward
    monkeypatch.setattr(
        CloudTeacher,
        "forward",
        lambda self, points, *of: looked.append(len(points)) or look(self, points, *of),
    )
    more = np.concatenate([split(1, seed=9).points, split().points[::-1]])
    shapes = ShapeSplit(more, np.zeros(6, np.int64), tuple(map(str, range(6))))
    again = teacher_features(teacher(), shapes, tmp_path)
    assert looked == [1]
    assert torch.equal(again[1:], found.flip(0))


def test_processes_begin_at_different_shapes_and_find_what_others_saw(tmp_path, monkeypatch):
    monkeypatch.setattr("pointpeft.training.teacher_features._TOGETHER", 2)
    seen, whole = [], teacher_features(teacher(), split(6), tmp_path / "whole")
    look = CloudTeacher.forward
    monkeypatch.setattr(
        CloudTeacher,
        "forward",
        lambda self, points, *of: seen.append(points[0, 0].tolist()) or look(self, points, *of),
    )
    found = teacher_features(teacher(), split(6), tmp_path / "b", share=Share(1, 3))
    assert seen == [split(6).points[place, 0].tolist() for place in (2, 4, 0)]
    torch.testing.assert_close(found, whole)
    assert torch.equal(teacher_features(teacher(), split(6), tmp_path / "b"), found)
    assert len(seen) == 3


def test_shapes_of_a_lost_shard_are_not_seen_or_refused(tmp_path, caplog):
    pytest.importorskip("pyarrow")
    write_shards(
        "procedural", tmp_path / "shards", procedural=6, num_points=64, shard_size=2, workers=0
    )
    whole = teacher_features(
        teacher(), load_sharded(tmp_path / "shards", InputTransform(64)), tmp_path
    )
    (tmp_path / "shards/shard-00001.parquet").unlink()
    lost = load_sharded(tmp_path / "shards", InputTransform(64))
    with pytest.raises(DataError, match="shard-00001"):
        teacher_features(teacher(), lost, tmp_path)
    found = teacher_features(teacher(), lost, tmp_path, on_error="skip")
    assert "shard-00001" in caplog.text
    assert found[2:4].isnan().all()
    assert torch.equal(found[[0, 1, 4, 5]], whole[[0, 1, 4, 5]])


@pytest.mark.parametrize(
    "change",
    [
        "shapes",
        "teacher",
        "views",
        "drawing",
        "points",
        "rubbish",
        "bit",
        "nan",
        "kind",
    ],
)
def test_whatever_changes_it_looks_again(tmp_path, change, monkeypatch):
    first = teacher_features(teacher(), split(), tmp_path)
    looks, shapes = teacher(), split()
    harm = {
        "rubbish": lambda _: b"damaged",
        "bit": flipped,
        "nan": lambda _: features_file(math.nan),
        "kind": lambda _: features_file(1, kind=np.int32),
    }
    if change == "shapes":
        shapes = split(seed=1)
    if change == "teacher":
        looks = teacher(seed=1)
    if change == "views":
        looks.views = make_views("shaded", 3)
    if change == "drawing":
        draw = ShadedViews.images
        monkeypatch.setattr(ShadedViews, "images", lambda *given: 0.9 * draw(*given))
    if change == "points":
        shapes = replace(shapes, points=shapes.points[:, :-1])
    if change in harm:
        file = next(tmp_path.rglob("*.npz"))
        file.write_bytes(harm[change](file.read_bytes()))
    again = teacher_features(looks, shapes, tmp_path)
    assert torch.equal(first, again) == (change in harm)


def test_a_transformer_is_known_by_its_settings_and_the_weights_that_count(tmp_path, monkeypatch):
    """Its heads show in no weight; a pooler and the names of classes change nothing."""
    transformers = pytest.importorskip("transformers")

    def seen(pooler, **settings):
        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=1, intermediate_size=8, image_size=32, patch_size=8,
            attn_implementation="eager", initializer_range=0.5, **settings,
        )  # fmt: skip
        network = transformers.ViTModel(config)
        torch.nn.init.constant_(network.pooler.dense.weight, pooler)
        looks = CloudTeacher(TransformersTeacher(network), make_views("shaded", 2))
        return teacher_features(looks, split(), tmp_path)

    first = seen(0, num_attention_heads=1)
    assert not torch.equal(seen(0, num_attention_heads=4), first)
    monkeypatch.setattr(CloudTeacher, "forward", None)  # looking again would fail
    assert torch.equal(seen(1, num_attention_heads=1, id2label={0: "a"}), first)


def test_a_run_learns_from_what_was_kept(run_pretrain, tmp_path, monkeypatch):
    monkeypatch.setenv("POINTPEFT_CACHE", str(tmp_path / "cache"))
    settings = [
        "pretraining.distillation=1.0",
        "pretraining.teacher=random",
        "pretraining.teacher_image_size=32",
        "data.augmentation=none",
    ]
    run_pretrain(*settings, "trainer.epochs=6")
    table = rows(tmp_path / "pretrain")
    loss = [float(row["loss_distillation"]) for row in table]
    assert loss[-1] < loss[0]
    total = float(table[0]["loss_reconstruction"]) + loss[0]
    assert float(table[0]["train_loss"]) == pytest.approx(total, rel=1e-5)
    assert list((tmp_path / "cache/teacher").rglob("*.npz"))


def test_what_could_not_be_seen_before_training_is_seen_in_it(run_pretrain, tmp_path, monkeypatch):
    """A shard that could not be read for a moment, as on a network file system."""

    def blinking(*given, **how):
        found = teacher_features(*given, **how)
        found[::3] = math.nan
        return found

    monkeypatch.setattr("pointpeft.training.pretraining.teacher_features", blinking)
    run_pretrain(
        "pretraining.distillation=1.0",
        "pretraining.teacher=random",
        "pretraining.teacher_image_size=32",
        "trainer.epochs=1",
    )
    (row,) = rows(tmp_path / "pretrain")
    assert math.isfinite(float(row["loss_distillation"]))


@pytest.fixture
def folder(tmp_path):
    """A mesh in two kinds of files, and a cloud."""
    (tmp_path / "shapes").mkdir()
    solid = trimesh.creation.capsule(1.0, 0.4)
    solid.export(tmp_path / "shapes/a.obj", include_normals=False)
    trimesh.creation.cone(1.0, 2.0).export(tmp_path / "shapes/b.ply")
    np.savetxt(tmp_path / "shapes/c.xyz", solid.sample(200, seed=0))
    return tmp_path / "shapes"


def meshes(folder, up_axis="y"):
    return load_unlabelled(folder, InputTransform(64, up_axis=up_axis), cache_dir=folder.parent)


def test_faces_are_seen_where_there_are_some(folder, tmp_path):
    stored = meshes(folder)
    assert [mesh is not None for mesh in stored.meshes] == [True, True, False]
    faces = teacher_features(teacher(), stored, tmp_path)
    points = teacher_features(teacher(), replace(stored, meshes=()), tmp_path)
    assert not torch.isclose(faces[:2], points[:2], atol=1e-3).all(dim=1).any()
    torch.testing.assert_close(faces[2], points[2], atol=1e-3, rtol=1e-2)
    back = stored.subset([1, 2])
    torch.testing.assert_close(teacher_features(teacher(), back, tmp_path), faces[1:])
    assert len(list((tmp_path / "teacher").rglob("*.npz"))) == 5  # the cloud is the same in both


def test_depth_views_see_points_alone(folder, tmp_path):
    looks, stored = CloudTeacher(RandomTeacher(32, 8, 5), make_views("depth")), meshes(folder)
    found = teacher_features(looks, stored, tmp_path)
    assert torch.equal(teacher_features(looks, replace(stored, meshes=()), tmp_path), found)
    assert len(list((tmp_path / "teacher").rglob("*.npz"))) == 3


def test_other_faces_are_seen_anew(folder, tmp_path):
    stored = meshes(folder)
    before = teacher_features(teacher(), stored, tmp_path)
    _, cone, _ = stored.meshes
    after = teacher_features(teacher(), replace(stored, meshes=(cone, cone, None)), tmp_path)
    assert not torch.isclose(before[0], after[0], atol=1e-3).all()
    torch.testing.assert_close(before[1:], after[1:])


def test_another_up_axis_is_seen_anew(folder, tmp_path):
    before = teacher_features(teacher(), meshes(folder), tmp_path)
    after = teacher_features(teacher(), meshes(folder, "z"), tmp_path)
    assert not torch.isclose(before, after, atol=1e-3).all(dim=1).any()


def test_a_mesh_that_changed_meanwhile_is_refused(folder, tmp_path):
    stored = meshes(folder)
    trimesh.creation.box().export(folder / "b.ply")
    with pytest.raises(DataError, match=r"b\.ply"):
        teacher_features(teacher(), stored, tmp_path)


def test_a_run_on_meshes_teaches_by_their_faces(folder, tmp_path, monkeypatch, run_pretrain):
    monkeypatch.setenv("POINTPEFT_CACHE", str(tmp_path / "cache"))
    seen = []
    look = CloudTeacher.forward

    def note(self, points, meshes=()):
        seen.extend(mesh is not None for mesh in meshes)
        return look(self, points, meshes)

    monkeypatch.setattr(CloudTeacher, "forward", note)
    settings = ["distillation=1.0", "teacher=random", "teacher_image_size=32"]
    run_pretrain(*(f"pretraining.{each}" for each in settings), f"data.source={folder}")
    assert seen == [True, True, False]
