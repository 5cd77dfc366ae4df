"""The published protocol beside the honest one, on tiny data in the published layouts."""

import numpy as np
import pytest
import torch
import yaml

from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.clouds import load_as_published, prepare_as_published
from pointpeft.compat.protocol import find_protocol
from pointpeft.compat.schedule import published_learning_rate
from pointpeft.data import InputTransform, load_shapes
from pointpeft.data.benchmarks.benchmark import RaggedSplit, redraw
from pointpeft.data.transforms import RandomScan
from pointpeft.errors import ConfigError
from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.records import EvaluateConfig
from pointpeft.measure.seen_shapes import read_measured
from pointpeft.training import FinetuneConfig, PretrainConfig, fitting, load_config, pretrain
from pointpeft.training.config import DataConfig, OptimizerConfig
from tests.data.benchmarks import layouts
from tests.training.support import TINY, rows

N = 64
PUBLISHED = "protocol=published"


def resolved(config):
    """As a run begins with it."""
    return find_protocol(config.protocol).resolve(config)


BG = "data.variant=scanobjectnn_obj_bg"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A ``data`` folder with larger clouds than the readers' tests need."""
    made = layouts.clouds

    def more(count, num_points, columns=6, seed=0):
        return made(count, 2 * N, columns, seed)

    folder = tmp_path / "data"
    layouts.write_shapenetpart(folder)  # its clouds may be of any size
    monkeypatch.setattr(layouts, "clouds", more)
    layouts.write_scanobjectnn(folder)
    layouts.write_shapenet(folder)
    layouts.write_episode(folder, way=2, shot=3, fold=0)
    layouts.write_episode(folder, way=2, shot=3, fold=1)
    return folder


def test_the_best_epoch_is_chosen_on_the_test_split_and_said_so(run_finetune, root, tmp_path):
    metrics = run_finetune(f"data.source={root}", BG, PUBLISHED, "trainer.epochs=3")
    history = rows(tmp_path / "run")
    assert len(history) == 4  # the published loops run an epoch more
    assert metrics["test_accuracy"] == max(float(row["test_accuracy"]) for row in history[1:])
    assert not [name for name in (*history[0], *metrics) if name.startswith("val")]
    assert metrics["test_items"] == 2
    assert metrics["train_items"] == 4
    assert metrics["selection"] == "test split (published protocol)"
    assert "test split" in (tmp_path / "run" / "log.txt").read_text()
    assert float(history[0]["lr"]) == pytest.approx(1e-6)


def test_by_default_the_test_split_is_not_looked_at(run_finetune, root):
    metrics = run_finetune(f"data.source={root}", BG, "trainer.epochs=1")
    assert metrics["selection"] != "test split (published protocol)"
    assert metrics["train_items"] + metrics["val_items"] == 4


def test_any_data_follows_the_published_protocol(run_finetune, tmp_path):
    small = "trainer.batch_size=2"  # as published a prediction depends on its batch
    metrics = run_finetune(PUBLISHED, "trainer.epochs=1", "method=point-peft", small)
    assert "val_accuracy" not in metrics
    assert metrics["test_accuracy"] == float(rows(tmp_path / "run")[1]["test_accuracy"])
    assert "no published data set" in (tmp_path / "run/log.txt").read_text()

    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["peft"] == {"reference_compat": True}
    assert config["optimizer"]["rule"] == "published"


def test_what_is_stated_is_stronger_than_the_protocol():
    for kind, section, text in (
        (FinetuneConfig, "peft", "method=point-peft"),
        (PretrainConfig, "pretraining", "model=point_m2ae"),
    ):
        honest = load_config(kind, [], [text])
        assert resolved(honest) == honest
        published = resolved(load_config(kind, [], [text, PUBLISHED]))
        assert getattr(published, section) == {"reference_compat": True}
        assert resolved(published) == published
        stated = load_config(kind, [], [text, PUBLISHED, f"{section}.reference_compat=false"])
        assert getattr(resolved(stated), section) == {"reference_compat": False}
    faultless = load_config(FinetuneConfig, [], ["method=bitfit", PUBLISHED])
    assert resolved(faultless).peft == {}


@pytest.mark.parametrize(("given", "length"), [([PUBLISHED], 3), (["optimizer.rule=published"], 3)])
def test_the_published_cosine_is_as_long_as_asked_for(run_finetune, tmp_path, given, length):
    """Not as long as the training, which may have an epoch more."""
    run_finetune("optimizer.warmup_epochs=1", "optimizer.lr=1e-2", "trainer.epochs=3", *given)
    following = [float(row["lr"]) for row in rows(tmp_path / "run")]  # each that of the next epoch
    config = OptimizerConfig(lr=1e-2, warmup_epochs=1)
    epochs = range(1, 4 + (PUBLISHED in given))
    expected = [published_learning_rate(epoch, 1e-2, length, config) for epoch in epochs]
    assert following == pytest.approx(expected)


def test_clouds_are_as_published(root):
    data = load_as_published(DataConfig(root, "obj_bg"), InputTransform(N, normalize="none"))
    assert data.train.points.shape == (4, 2 * N, 3)
    assert data.test.points.shape == (2, N * 75 // 64, 3)
    assert data.val is data.test
    assert len(data.class_names) == 15
    ball = load_as_published(DataConfig(root, "obj_bg"), InputTransform(N))
    norms = np.linalg.norm(ball.train.points, axis=2).max(axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert load_as_published(DataConfig(root.parent), InputTransform(N)) is None


def test_own_data_stands_in_order_under_both_protocols(archive):
    train = load_shapes(str(archive), InputTransform(N)).train
    assert find_protocol("published").in_order(train, N) is train


def test_a_report_of_published_data_is_of_farthest_points(run_finetune, root, tmp_path):
    run_finetune(f"data.source={root}", BG, PUBLISHED, "trainer.epochs=1")
    adapter = LoadedAdapter(tmp_path / "run")
    known = load_as_published(DataConfig(root, "obj_bg"), InputTransform(N)).train
    farthest = prepare_as_published(known, N).points
    config = EvaluateConfig(
        adapter=str(tmp_path / "run"), data=str(root), variant="obj_bg", protocol="published"
    )
    assert np.array_equal(read_measured(config, adapter).seen.points[:, :N], farthest)


@pytest.mark.parametrize("task", ["classification", "pretraining"])
def test_scans_are_simulated_by_the_published_protocol_too(task):
    steps = find_protocol("published").augmentation("scan", N, task).steps
    assert RandomScan(N) in steps


@pytest.mark.parametrize("method", ["svm", "linear"])
def test_what_is_fitted_sees_training_clouds_as_test_clouds_are(
    method, run_finetune, root, monkeypatch, svm_beside
):
    """In farthest-point order, and not the first points of the file."""
    known = load_as_published(DataConfig(root, "obj_bg"), InputTransform(N))
    farthest = prepare_as_published(known.train, N).points
    assert not np.array_equal(farthest, known.train.points[:, :N])
    clouds, extract = [], fitting.extract_features

    def watched(trunk, points, *others, **named):
        clouds.append(points.numpy())
        return extract(trunk, points, *others, **named)

    monkeypatch.setattr(fitting, "extract_features", watched)
    run_finetune(f"data.source={root}", BG, PUBLISHED, f"method={method}", "trainer.epochs=1")
    assert np.array_equal(clouds[0], farthest)


def test_points_with_part_labels_are_drawn_anew_with_their_labels(root):
    data = load_as_published(
        DataConfig(root, "shapenetpart", train_split="trainval"), InputTransform(N)
    )
    assert isinstance(data.train, RaggedSplit)
    assert data.train.points.shape[1:] == (N, 3)
    S = len(data.train)
    one, other = (data.train.draw([number, number + 1], seed=0) for number in (0, S))
    assert not np.array_equal(one[0], other[0])
    assert np.array_equal(one[0], data.train.points[:2])
    assert np.array_equal(redraw(data, 0).test.points, data.test.points)
    assert not np.array_equal(redraw(data, 1).test.points, data.test.points)
    for points, labels in (one, other):
        for place in range(2):
            known = {
                tuple(p): s
                for p, s in zip(data.train.clouds[place], data.train.parts[place], strict=True)
            }
            assert [known[tuple(p)] for p in points[place]] == labels[place].tolist()


def test_published_part_segmentation_runs(run_finetune, root, tmp_path):
    metrics = run_finetune(
        "task=part_segmentation", f"data.source={root}", "data.variant=shapenetpart",
        "data.train_split=trainval", PUBLISHED, "trainer.epochs=1", "method=full",
        "optimizer.steps_twice=true", "backbone.depth=3", "checkpoint=random",
        "save_published=true",
    )  # fmt: skip
    assert 0 <= metrics["test_instance_iou"] <= 1
    layout = read_checkpoint(tmp_path / "run" / "best_model.pth").title
    assert layout == "Point-MAE, fine-tuned for part segmentation"


def test_two_steps_move_further_than_one(run_finetune, tmp_path):
    """The second one, with the clipped gradient, changes the course of training."""
    losses = []
    for name, twice in (("once", "false"), ("twice", "true")):
        run_finetune(f"optimizer.steps_twice={twice}", "trainer.epochs=2", name=name)
        losses.append([row["train_loss"] for row in rows(tmp_path / name)])
    assert losses[0][0] != losses[1][0]
    with pytest.raises(ConfigError, match=r"steps_twice=true.*float16"):
        run_finetune("optimizer.steps_twice=true", "trainer.precision=16-mixed")


def test_smoothed_labels_raise_the_loss_of_the_same_model(run_finetune, tmp_path):
    for name, share in (("plain", 0.0), ("smooth", 0.3)):
        run_finetune(f"label_smoothing={share}", "trainer.epochs=1", name=name)
    plain, smooth = (rows(tmp_path / name)[0] for name in ("plain", "smooth"))
    assert plain["train_loss"] != smooth["train_loss"]
    with pytest.raises(ConfigError, match="label_smoothing"):
        run_finetune("label_smoothing=1.5", name="wrong")


def test_votes_are_counted_both_ways(run_finetune, archive, tmp_path):
    honest = run_finetune("votes=3", "trainer.epochs=1")
    assert 0 <= honest["test_vote_accuracy"] <= 1
    assert honest["test_vote_rule"] == "mean of 3 seeded passes"
    published = run_finetune("votes=3", PUBLISHED, "trainer.epochs=1", name="published")
    accuracies = published["test_vote_accuracies"]
    assert len(accuracies) == 3
    assert published["test_vote_accuracy"] == max(accuracies)
    assert "chosen on the measured split" in published["test_vote_rule"]
    again = evaluate_adapter(tmp_path / "run", str(archive), tmp_path / "again", votes=3)
    assert again["test_vote_accuracy"] == honest["test_vote_accuracy"]


def settings(root, *overrides):
    given = [f"data.source={root}", "data.variant=shapenet55", "trainer.epochs=2", "seed=0"]
    return load_config(PretrainConfig, [], [*TINY, *given, *overrides])


def test_runs_are_also_written_as_published(run_finetune, root, tmp_path):
    run_finetune("method=full", "save_published=true", "trainer.epochs=1")
    best = tmp_path / "run" / "ckpt-best.pth"
    assert read_checkpoint(best).title == "Point-MAE, fine-tuned for classification"
    assert torch.load(best, weights_only=True)["epoch"] == 0
    pretrain(settings(root, "save_published=true", "trainer.epochs=1"), tmp_path / "pre")
    layout = read_checkpoint(tmp_path / "pre" / "ckpt-last.pth").title
    assert layout == "Point-MAE, pre-trained"
    with pytest.raises(ConfigError, match="reference_compat=True"):
        run_finetune("method=point-peft", "save_published=true", name="peft")
