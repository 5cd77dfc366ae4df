"""What a teacher sees of stored shapes is kept on disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointpeft.data import ShapeSplit
from pointpeft.models.objective import CloudTeacher
from pointpeft.training.teacher_features import teacher_features
from pointpeft.vision import RandomTeacher, make_views
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


@pytest.mark.parametrize("change", ["shapes", "teacher", "views", "drawing", "points", "file"])
def test_whatever_changes_it_looks_again(tmp_path, change, monkeypatch):
    first = teacher_features(teacher(), split(), tmp_path)
    looks, shapes = teacher(), split()
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
    if change == "file":
        next(tmp_path.rglob("*.safetensors")).write_bytes(b"damaged")
    again = teacher_features(looks, shapes, tmp_path)
    assert torch.equal(first, again) == (change == "file")


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
    assert list((tmp_path / "cache/teacher").rglob("*.safetensors"))
