"""Part segmentation learns, writes what classification writes, and resumes as exactly."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pointpeft.compat.schedule import batchnorm_momentum
from pointpeft.data import PartTable
from pointpeft.data.transforms import recipe
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure import load_adapted
from pointpeft.tasks.part_segmentation import SegmentationModule
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.training.parts import (
    CATEGORIES,
    DEPTH,
    PART_NAMES,
    part_arrays,
    write_part_archive,
    write_part_folder,
)
from tests.training.support import TINY, adapter_bytes, rows

SETTINGS = [*TINY, DEPTH, "task=part_segmentation", "trainer.epochs=2", "trainer.batch_size=4",
            "optimizer.warmup=0"]  # fmt: skip
MAJORITY = np.mean([1 / 9, 0.35])  # mean IoU of the commonest part everywhere, lamps and mugs
METHODS = {"full": 2e-3, "linear": 2e-3, "point-peft": 5e-3}
SHAPES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "parts19.npz"


@pytest.fixture(scope="session")
def part_archive(tmp_path_factory):
    """32 lamps and 32 mugs, without stated splits."""
    return write_part_archive(tmp_path_factory.mktemp("parts") / "parts.npz", 32)


@pytest.fixture
def run_parts(part_archive, tmp_path):
    """Trains into the folder `name` with overrides and returns the metrics."""

    def run(*overrides, name="run", resume=False):
        settings = [*SETTINGS, f"data.source={part_archive}", *overrides]
        config = load_config(FinetuneConfig, [], settings)
        return finetune(config, tmp_path / name, resume=resume)

    return run


@pytest.fixture(scope="module", params=METHODS)
def trained(request, part_archive, tmp_path_factory):
    """A run of two epochs by each method: its method, folder and metrics."""
    folder = tmp_path_factory.mktemp("trained")
    given = [f"data.source={part_archive}", f"method={request.param}",
             f"optimizer.lr={METHODS[request.param]}"]  # fmt: skip
    config = load_config(FinetuneConfig, [], [*SETTINGS, *given])
    return request.param, folder, finetune(config, folder)


def test_two_epochs_find_parts(trained):
    _, _, metrics = trained
    assert metrics["test_instance_iou"] > MAJORITY + 0.2
    assert metrics["val_instance_iou"] > MAJORITY + 0.2
    assert metrics["test_accuracy"] > 0.75
    assert set(metrics["test_category_iou"]) == set(CATEGORIES)
    assert metrics["test_class_iou"] == pytest.approx(
        np.mean(list(metrics["test_category_iou"].values()))
    )


def test_run_folder_is_complete(trained):
    method, folder, metrics = trained
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["task"] == "part_segmentation"
    assert metrics["method"] == method
    assert metrics["part_names"] == list(PART_NAMES)
    assert metrics["class_names"] == list(CATEGORIES)
    assert metrics["class_items"] == [6, 6]
    assert metrics["selection"] == "validation split"
    assert metrics["trainable_parameters"] <= metrics["total_parameters"]
    for name in ("config.yaml", "log.txt", "metrics.csv"):
        assert (folder / name).stat().st_size > 0, name
    assert {f.name for f in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert "adapter_model.safetensors" in adapter_bytes(folder)
    assert not list(folder.rglob("*.tmp"))


def test_history_holds_what_selects_the_epoch(trained):
    _, folder, metrics = trained
    history = rows(folder)
    assert [int(row["epoch"]) for row in history] == [1, 2]
    assert all(math.isfinite(float(v)) for row in history for v in row.values())
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmax([float(row["val_score"]) for row in history]))
    assert metrics["val_instance_iou"] == pytest.approx(
        float(history[best["epoch"]]["val_instance_iou"]), abs=1e-5
    )


def test_adapter_holds_what_prediction_needs(trained):
    method, folder, _ = trained
    model = load_adapted(folder)
    assert PartTable.from_dict(model.parts).names == PART_NAMES
    assert model.class_names == tuple(CATEGORIES)
    assert model.input["transform"]["num_points"] == 64
    stored = load_file(folder / "adapter/adapter_model.safetensors")
    assert any("attn.qkv" in name for name in stored) == (method == "full")


@pytest.mark.parametrize(
    ("epoch", "momentum"), [(0, 0.1), (19, 0.1), (20, 0.05), (45, 0.025), (299, 0.01)]
)
def test_published_momentum_of_an_epoch(epoch, momentum):
    assert batchnorm_momentum(epoch, decay=0.5, step=20) == momentum


def test_momentum_of_batchnorm_falls(run_parts, tmp_path, monkeypatch):
    few = write_part_archive(tmp_path / "few.npz", 6)
    seen, step = [], SegmentationModule.training_step

    def watched(self, batch, index):
        seen.append({m.momentum for m in self.modules() if isinstance(m, torch.nn.BatchNorm1d)})
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationModule, "training_step", watched)
    decay = ["optimizer.bn_momentum_decay=0.5", "optimizer.bn_momentum_step=1"]
    run_parts(f"data.source={few}", *decay)
    assert (seen[0], seen[-1]) == ({0.1}, {0.05})
    with pytest.raises(ConfigError, match="bn_momentum_decay"):
        run_parts("optimizer.bn_momentum_decay=1.5", name="wrong")


@pytest.mark.parametrize(("protocol", "rate"), [("honest", 2e-3), ("published", 2e-4)])
def test_defaults_suit_the_task(run_parts, tmp_path, protocol, rate):
    run_parts("trainer.epochs=1", f"protocol={protocol}")
    config = load_config(FinetuneConfig, [tmp_path / "run/config.yaml"])
    assert config.method == "full"
    assert config.optimizer.lr == rate
    assert config.data.augmentation == "part-segmentation"
    plain = FinetuneConfig()
    assert (plain.task, plain.method, plain.data.augmentation) == ("classification", None, None)


def test_same_seed_gives_same_run(run_parts, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run_parts("method=linear", f"seed={seed}", "trainer.epochs=1", name=name)
    a, b, c = (adapter_bytes(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_resumed_run_equals_uninterrupted_run(run_parts, tmp_path, monkeypatch):
    whole = run_parts(name="whole")
    step = SegmentationModule.training_step

    def failing(task, batch, index):
        if task.trainer.current_epoch == 1 and index == 1:
            raise InterruptedError
        return step(task, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", failing)
        with pytest.raises(InterruptedError):
            run_parts(name="cut")
    torch.rand(1000)
    resumed = run_parts(name="cut", resume=True)
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    first, second = (
        load_file(tmp_path / name / "adapter/adapter_model.safetensors")
        for name in ("whole", "cut")
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert resumed["test_category_iou"] == whole["test_category_iou"]
    assert run_parts(name="cut", resume=True) == resumed


def test_several_seeds_are_summed_up(run_parts, tmp_path):
    metrics = run_parts("method=linear", "seeds=2", "trainer.epochs=1")
    single = [json.loads((tmp_path / f"run/seed{s}/metrics.json").read_text()) for s in (0, 1)]
    for key in ("test_instance_iou", "test_class_iou", "test_accuracy", "val_instance_iou"):
        assert metrics[f"{key}_per_seed"] == [each[key] for each in single]
        assert metrics[key] == pytest.approx(np.mean([each[key] for each in single]))
    best = max(single, key=lambda each: each["val_instance_iou"])
    assert metrics["adapter_from"] == f"seed{best['seed']}"
    assert metrics["best_test_category_iou"] == best["test_category_iou"]


def test_folder_of_text_files(run_parts, tmp_path):
    source = write_part_folder(tmp_path / "data")
    metrics = run_parts(f"data.source={source}", "method=linear", "trainer.epochs=1")
    assert metrics["part_names"] == list(PART_NAMES)
    assert metrics["train_items"] + metrics["val_items"] + metrics["test_items"] == 16


def test_one_category_and_shared_parts(run_parts, tmp_path):
    """Labels that count from 0 in every category are parts that the categories share."""
    arrays = part_arrays(12)
    shared = np.where(arrays["label"][:, None] == 0, arrays["seg"], arrays["seg"] - 3)
    both = write_part_archive(tmp_path / "both.npz", 12, seg=shared, parts=None)
    metrics = run_parts(f"data.source={both}", "method=linear", name="both")
    assert metrics["part_names"] == ["part 0", "part 1", "part 2"]
    assert metrics["test_instance_iou"] > MAJORITY
    lamps = {key: arrays[key][:12] for key in ("points", "seg", "label")}
    one = write_part_archive(tmp_path / "one.npz", names=np.array(["lamp"]), **lamps)
    metrics = run_parts(f"data.source={one}", "method=linear", "trainer.epochs=1", name="one")
    assert metrics["class_names"] == ["lamp"]


def test_labels_of_the_test_split_do_not_influence_training(run_parts, tmp_path):
    split = np.tile(["train"] * 8 + ["val"] * 2 + ["test"] * 2, 2)
    arrays = part_arrays(12)
    wrong = arrays["seg"].copy()
    wrong[split == "test"] = arrays["seg"].reshape(2, 12, -1)[:, :1].repeat(2, 1).reshape(4, -1)
    for name, seg in (("right", arrays["seg"]), ("wrong", wrong)):
        data = write_part_archive(tmp_path / f"{name}.npz", 12, seg=seg, split=split)
        run_parts(f"data.source={data}", "method=linear", name=name)
    a, b = (adapter_bytes(tmp_path / name) for name in ("right", "wrong"))
    assert a["adapter_model.safetensors"] == b["adapter_model.safetensors"]


def test_without_a_test_split_nothing_is_made_up(run_parts, tmp_path):
    data = write_part_archive(tmp_path / "train.npz", 8, split=np.array(["train"] * 16))
    metrics = run_parts(f"data.source={data}", "data.val_fraction=0", "trainer.epochs=1")
    assert metrics["test_instance_iou"] is None
    assert metrics["val_instance_iou"] is None
    assert "last epoch" in metrics["selection"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seg": None}, "'seg'"),
        ({"seg": part_arrays(32)["seg"][:, :-1]}, "seg"),
        ({"seg": -part_arrays(32)["seg"]}, "start at 0"),
        ({"seg": part_arrays(32)["seg"] + 1}, "5 parts"),
        ({"seg": np.zeros((64, 128), int), "parts": None}, "every category"),
    ],
)
def test_unusable_part_labels_end_the_run_before_it_begins(run_parts, tmp_path, changes, words):
    data = write_part_archive(tmp_path / "bad.npz", 32, **changes)
    with pytest.raises(DataError, match=words):
        run_parts(f"data.source={data}")
    assert not (tmp_path / "run/config.yaml").exists()


def test_classification_data_is_refused(run_parts, archive):
    with pytest.raises(DataError, match="'seg'"):
        run_parts(f"data.source={archive}")
    with pytest.raises(DataError, match="homeobjects"):
        run_parts("data.source=homeobjects")


@pytest.mark.parametrize("task", ["segmentation", "part-segmentation"])
def test_unknown_task_is_named(run_parts, task):
    with pytest.raises(ConfigError, match=r"classification.*part_segmentation"):
        run_parts(f"task={task}")


def test_too_shallow_an_encoder_is_refused(run_parts):
    with pytest.raises(ConfigError, match="depth"):
        run_parts("backbone.depth=2")


def test_training_sees_points_with_their_labels():
    """A model that looks at heights alone is right about parts that are heights."""

    class ByHeight(torch.nn.Module):
        def forward(self, points, exclude, category):
            return 50 * torch.stack([-points[..., 1], points[..., 1]], dim=-1)

    table = PartTable(("low", "high"), {"x": (0, 1)})
    task = SegmentationModule(ByHeight(), None, recipe("part-segmentation", 32), table)
    task.log = lambda *_, **__: None
    points = torch.randn(4, 64, 3)
    points[..., 1] += points[..., 1].sign()  # clear of the largest shift
    batch = {"points": points, "seg": (points[..., 1] > 0).long(),
             "label": torch.zeros(4).long(), "index": torch.arange(4)}  # fmt: skip
    assert task.training_step(batch, 0).item() < 1e-6
    batch["seg"] = batch["seg"].flip(1)
    assert task.training_step(batch, 0).item() > 1


def test_real_shapes_in_nineteen_categories(run_parts):
    if not SHAPES.is_file():
        pytest.skip(f"real shapes with part labels are not at {SHAPES}")
    metrics = run_parts(
        f"data.source={SHAPES}", "method=linear", "trainer.epochs=1", "trainer.batch_size=16"
    )
    assert len(metrics["part_names"]) == 94
    assert metrics["test_items"] == 76
    assert 0.05 < metrics["test_instance_iou"] < 1
