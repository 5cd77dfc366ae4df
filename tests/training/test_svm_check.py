"""A linear SVM in pre-training: what it is fitted on, and what it leaves in the run folder."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.protocol import find_protocol
from pointpeft.data import InputTransform, load_unlabelled
from pointpeft.errors import ConfigError
from pointpeft.measure.scores import extract_features
from pointpeft.measure.svm import linear_svm
from pointpeft.peft.linear_svm import DEFAULT_C
from pointpeft.training import PretrainConfig, load_config
from pointpeft.training.config import DataConfig, SvmCheckConfig
from pointpeft.training.pretraining_checks import SvmCheck
from tests.models.tiny import tiny
from tests.training.support import NUM_POINTS, rows, write_archive

CONFIGS = Path(__file__).resolve().parents[2] / "cfgs" / "pre-training"


def make_check(archive, protocol, training=None, known=frozenset(), **settings):
    config = SvmCheckConfig(source=str(archive), num_points=NUM_POINTS, **settings)
    ignore = lambda model, epochs, value: None  # noqa: E731
    return SvmCheck(config, find_protocol(protocol), ignore, training or DataConfig(), known)


def test_shapes_are_scaled_and_turned_as_those_that_are_trained_on(archive, tmp_path):
    with np.load(archive) as arrays:
        moved = dict(arrays)
    x, y, z = np.moveaxis(moved["points"], -1, 0)
    moved["points"] = 250 * np.stack([x, -z, y], axis=-1) + 4000  # z is up
    np.savez(tmp_path / "moved.npz", **moved)
    plain = make_check(archive, "honest")
    lying = make_check(tmp_path / "moved.npz", "honest", DataConfig(up_axis="z"))
    np.testing.assert_allclose(lying.train.points, plain.train.points, atol=1e-4)
    stated = make_check(tmp_path / "moved.npz", "honest", up_axis="z", normalize="unit_ball")
    np.testing.assert_allclose(stated.train.points, plain.train.points, atol=1e-4)
    assert np.abs(make_check(tmp_path / "moved.npz", "published").train.points).max() > 3000


@pytest.mark.parametrize("changed", [{"seed": 1}, {"val_fraction": 0.4}])
def test_it_measures_on_shapes_that_the_run_leaves_out(changed, archive, tmp_path, caplog):
    with np.load(archive) as arrays:
        unsplit = {name: array for name, array in arrays.items() if name != "split"}
    np.savez(tmp_path / "unsplit.npz", **unsplit)
    config = DataConfig(str(tmp_path / "unsplit.npz"), **changed)
    source = partial(load_unlabelled, config.source, InputTransform(NUM_POINTS))
    known = source(seed=config.seed, val_fraction=config.val_fraction).marks()
    make_check(config.source, "honest", config, known=known)
    assert "are measured" not in caplog.text
    make_check(config.source, "honest", config, known=source(val_fraction=0.0).marks())
    assert "are measured" in caplog.text


def test_the_best_epoch_is_kept_in_both_forms(run_pretrain, archive, tmp_path):
    metrics = run_pretrain(
        f"svm.source={archive}", f"svm.num_points={NUM_POINTS}", "svm.C=1.0", "save_published=true",
        "protocol=published", "trainer.epochs=2",
    )  # fmt: skip
    run = tmp_path / "pretrain"
    accuracies = [float(row["svm_accuracy"]) for row in rows(run)]
    assert len(accuracies) == 3  # the published loops run an epoch more
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    assert metrics["best_svm_accuracy"] == max(accuracies)
    assert metrics["protocol"] == "published"
    assert metrics["selection"] == "test split (published protocol)"
    assert "selected by: test split" in (run / "log.txt").read_text()
    best = torch.load(run / "ckpt-best.pth", weights_only=True)
    assert best["metrics"]["acc"] == pytest.approx(100 * max(accuracies))
    assert best["epoch"] == int(np.argmax(accuracies))  # from 0, as published
    assert read_checkpoint(run / "ckpt-best.pth").title == "Point-MAE, pre-trained"
    kept = read_checkpoint(run / metrics["best_weights"])
    assert kept.metadata["epochs"] == best["epoch"] + 1


def test_it_measures_on_validation_unless_asked_otherwise(tmp_path, archive):
    honest, published = (make_check(archive, way) for way in ("honest", "published"))
    assert not np.array_equal(honest.held_out.points, published.held_out.points)
    assert honest.held_out.points.shape[1] == NUM_POINTS


def test_point_bert_is_measured_as_published(archive):
    """By LinearSVC on what its class head makes of the class token, no patch being hidden."""
    torch.manual_seed(0)
    model = tiny("pretraining", "point_bert").train()
    check = make_check(archive, "published", farthest=True, machine="linear_svc", C=1.0)
    accuracy = check.measure(model)
    assert model.training
    model.eval()
    with torch.no_grad():
        train, test = (
            model.cls_head(model.encode(patches, torch.zeros(patches.centers.shape[:2]).bool())[0])
            for patches in (
                model.backbone.tokenizer.group(torch.from_numpy(part.points))
                for part in (check.train, check.held_out)
            )
        )
    machine = LinearSVC(random_state=0).fit(train[:, 0].numpy(), check.train.labels)
    assert accuracy == machine.score(test[:, 0].numpy(), check.held_out.labels)


def test_regularisation_is_cross_validated_on_the_training_shapes_unless_it_is_given(archive):
    """What suits one encoder is far off for another one."""
    torch.manual_seed(0)
    model = tiny("pretraining", "point_mae").eval()
    check = make_check(archive, "honest")
    features = [
        extract_features(model.backbone, torch.from_numpy(part.points))
        for part in (check.train, check.held_out)
    ]
    tuned, given = (
        linear_svm(features[0], check.train.labels, features[1], check.held_out.labels, C)
        for C in (None, 0.01)
    )
    assert tuned.tuned
    assert check.measure(model) == tuned.accuracy != given.accuracy
    assert make_check(archive, "honest", C=0.01).measure(model) == given.accuracy


def test_published_settings_keep_their_regularisation():
    for name in ("i2p-mae", "point-m2ae"):
        config = load_config(PretrainConfig, [CONFIGS / f"{name}.yaml"])
        assert config.svm.C == 0.01


def test_with_too_few_shapes_to_cross_validate_c_is_the_default(tmp_path):
    data = write_archive(tmp_path / "one.npz", {"train": 1, "val": 1})
    assert make_check(data, "honest").C == DEFAULT_C
    assert make_check(data, "honest", C=3.0).C == 3.0


def test_clouds_with_fewer_points_than_patches_need_are_refused_before_training(
    run_pretrain, archive, tmp_path
):
    with pytest.raises(ConfigError, match=r"svm\.num_points=5"):
        run_pretrain(f"svm.source={archive}", "svm.num_points=5")
    assert not (tmp_path / "pretrain" / "metrics.csv").exists()


def test_settings_that_cannot_be_had(archive):
    with pytest.raises(ConfigError, match=r"svm\.machine=linear_svc.*svm\.C"):
        make_check(archive, "honest", machine="linear_svc", C=None)
    with pytest.raises(ConfigError, match=r"svm\.machine"):
        make_check(archive, "honest", machine="svm")
