"""Pre-training lowers its loss and leaves an encoder that other commands load."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file

import pointpeft as pp
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure import load_adapted
from pointpeft.training.pretraining_checks import SvmCheck
from tests.training.support import CLASSES, TINY_BACKBONE, rows, write_meshes


def test_loss_goes_down_and_weights_load(run_pretrain, tmp_path):
    metrics = run_pretrain("trainer.epochs=12", "optimizer.lr=5e-3")
    run = tmp_path / "pretrain"
    loss = [float(row["train_loss"]) for row in rows(run)]
    assert len(loss) == 12
    assert loss[-1] < 0.8 * loss[0]
    assert metrics["loss"] == pytest.approx(loss[-1])
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert metrics["items"] == 32  # validation and test shapes are left out
    pp.create_model("point_mae_small", checkpoint=run / metrics["weights"], **TINY_BACKBONE)


def test_weights_serve_finetuning(run_pretrain, run_finetune, tmp_path):
    """The frozen encoder of the adapted model is the one that was pre-trained."""
    run_pretrain("trainer.epochs=1")
    weights = tmp_path / "pretrain/backbone.safetensors"
    run_finetune(f"checkpoint={weights}", "method=linear", "trainer.epochs=1")
    adapted, stored = load_adapted(tmp_path / "run").model.backbone.state_dict(), load_file(weights)
    assert adapted.keys() == stored.keys()
    assert all(torch.equal(adapted[name], stored[name]) for name in stored)
    assert not torch.equal(stored["pos_embed.0.weight"], _at_random("pos_embed.0.weight"))


def _at_random(name):
    torch.manual_seed(0)
    return pp.create_model("point_mae_small", **TINY_BACKBONE).state_dict()[name]


def test_a_run_means_its_best_epoch_where_a_check_said_which(
    run_pretrain, run_finetune, archive, tmp_path, monkeypatch, caplog
):
    values = iter([0.2, 0.9, 0.9, 0.4])
    monkeypatch.setattr(SvmCheck, "measure", lambda *_: next(values))
    metrics = run_pretrain(f"svm.source={archive}", "svm.num_points=64")
    assert (metrics["best_svm_accuracy"], metrics["best_epoch"]) == (0.9, 2)
    run = tmp_path / "pretrain"
    with caplog.at_level(logging.INFO, "pointpeft"):
        run_finetune(f"checkpoint={run}", "method=linear", "trainer.epochs=1")
    assert metrics["best_weights"] in caplog.text
    adapted = load_adapted(tmp_path / "run").model.backbone.state_dict()
    best, last = (load_file(run / metrics[name]) for name in ("best_weights", "weights"))
    assert all(torch.equal(adapted[name], best[name]) for name in best)
    assert not all(torch.equal(best[name], last[name]) for name in best)


def test_weights_bring_their_sizes(run_pretrain, tmp_path):
    run_pretrain("trainer.epochs=1")
    weights = tmp_path / "pretrain/backbone.safetensors"
    model = pp.create_model("point_mae_small", checkpoint=weights)
    assert model.spec.config["dim"] == 24


def test_same_seed_gives_same_weights(run_pretrain, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_pretrain("trainer.epochs=2", f"seed={seed}", name=name)
    a, b, c = ((tmp_path / name / "backbone.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_flat_folder_of_meshes(run_pretrain, tmp_path):
    folder = write_meshes(tmp_path / "meshes", {"box": 4})
    metrics = run_pretrain(f"data.source={folder / 'box'}", "trainer.epochs=1")
    assert metrics["items"] == 4


@pytest.mark.parametrize(("fraction", "items"), [("0", 20), ("0.1", 16), ("0.2", 12)])
def test_the_stated_share_is_left_out(run_pretrain, tmp_path, fraction, items):
    """Fine-tuning with the same data.val_fraction keeps the others for validation and testing."""
    folder = write_meshes(tmp_path / "meshes", {"box": 10, "torus": 10})
    stated = [f"data.source={folder}", f"data.val_fraction={fraction}", "trainer.epochs=1"]
    assert run_pretrain(*stated)["items"] == items


def test_unknown_pretraining_setting(run_pretrain):
    with pytest.raises(ConfigError, match="mask_ratoi"):
        run_pretrain("pretraining.mask_ratoi=0.5")


def test_patience_has_nothing_to_wait_for(run_pretrain):
    with pytest.raises(ConfigError, match=r"trainer\.patience"):
        run_pretrain("trainer.patience=3")


def test_one_shape_is_too_few(run_pretrain, tmp_path):
    folder = write_meshes(tmp_path / "meshes", {"box": 1})
    with pytest.raises(DataError, match=r"data\.source"):
        run_pretrain(f"data.source={folder}")


def test_procedural_shapes_join_the_stored_ones(run_pretrain):
    assert run_pretrain("trainer.epochs=1", "procedural=9")["items"] == 32 + 9


def test_procedural_shapes_alone(run_pretrain, tmp_path):
    chosen = ("data.source=procedural", "procedural=12", "trainer.epochs=2")
    for name in "ab":
        assert run_pretrain(*chosen, name=name)["items"] == 12
    a, b = ((tmp_path / name / "backbone.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_procedural_shapes_alone_need_a_number(run_pretrain):
    with pytest.raises(ConfigError, match="procedural=N"):
        run_pretrain("data.source=procedural")


def test_contrast_trains_on_two_views(run_pretrain, tmp_path):
    metrics = run_pretrain("trainer.epochs=8", "optimizer.lr=5e-3", "pretraining.contrast=0.1")
    loss = [float(row["train_loss"]) for row in rows(tmp_path / "pretrain")]
    assert metrics["loss"] == pytest.approx(loss[-1])
    assert loss[-1] < 0.8 * loss[0]


def test_an_encoder_says_which_test_shapes_it_has_seen(run_pretrain, run_finetune, tmp_path):
    source = f"data.source={write_meshes(tmp_path / 'set', dict.fromkeys(CLASSES, 5))}"
    run_pretrain(source, "trainer.epochs=1")
    encoder = f"checkpoint={tmp_path / 'pretrain'}"
    same = run_finetune(source, encoder, "trainer.epochs=1")
    assert not any("pre-trained" in note for note in same["notes"])
    run_pretrain(source, "data.val_fraction=0", "trainer.epochs=1", name="all")
    run_pretrain(source, f"checkpoint={tmp_path / 'all'}", "trainer.epochs=1", name="after")
    for name in ("all", "after"):
        encoder = f"checkpoint={tmp_path / name}"
        metrics = run_finetune(source, encoder, "trainer.epochs=1", name=f"on-{name}")
        assert any("on 4 of the 4 test" in note for note in metrics["notes"])


def test_every_epoch_says_how_fast_it_was_and_what_it_needed(run_pretrain, tmp_path):
    metrics = run_pretrain("trainer.epochs=3")
    table = rows(tmp_path / "pretrain")
    speeds = [float(row["clouds_per_second"]) for row in table]
    seconds = sorted(metrics["items"] / speed for speed in speeds)
    assert seconds[1] == pytest.approx(metrics["seconds_per_epoch"], rel=1e-3)
    peaks = [float(row["peak_memory_bytes"]) for row in table]
    assert sorted(peaks) == peaks
    assert peaks[-1] <= metrics["peak_memory_bytes"] * 1.001
