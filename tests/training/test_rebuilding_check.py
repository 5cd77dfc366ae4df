"""A tokenizer is measured by what it makes of shapes that it is not trained on."""

import numpy as np
import pytest
import torch

from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.protocol import find_protocol
from pointpeft.data import ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.errors import ConfigError
from pointpeft.training import PretrainConfig, load_config, pretrain
from pointpeft.training.pretraining_batches import PretrainingClouds
from pointpeft.training.pretraining_checks import RebuildingCheck
from pointpeft.training.unlabelled import load_pretraining_data
from tests.data.benchmarks import layouts
from tests.models.tiny import clouds, tiny
from tests.training.support import rows

TOKENIZER = [
    "model=point_bert_dvae", "backbone.num_groups=8", "backbone.group_size=8",
    "backbone.embed_dim=16", "backbone.num_tokens=12", "backbone.token_dim=10",
    "backbone.decoder_dim=16", "backbone.patch_widths=[8,12,16]", "data.num_points=64",
    "trainer.accelerator=cpu", "trainer.batch_size=16",
]  # fmt: skip


def test_it_is_the_mean_distance_of_rebuilt_clouds():
    model, points = tiny("pretraining", "point_bert_dvae").train(), clouds(3, 80)
    held_out = ShapeSplit(points.numpy(), np.zeros(3, np.int64), ("a", "b", "c"))
    whole = PretrainingClouds(held_out, 80)
    check = RebuildingCheck(whole, recipe("none", 64), 1, lambda *found: None)
    torch.manual_seed(1)
    distance = check.measure(model)
    assert model.training
    seen = points[:, :64]
    torch.manual_seed(1)
    with torch.no_grad():
        pairs = torch.cdist(model.eval().rebuild_clouds(seen), seen)
    both = pairs.amin(dim=2).mean() + pairs.amin(dim=1).mean()
    assert distance == pytest.approx(float(both) / 2, rel=1e-4)


def test_the_best_tokenizer_is_kept(archive, tmp_path):
    given = ["trainer.epochs=3", "validate_every=2", "save_published=true", "optimizer.lr=1e-2"]
    config = load_config(PretrainConfig, [], [*TOKENIZER, f"data.source={archive}", *given])
    metrics = pretrain(config, tmp_path)
    history = rows(tmp_path)
    assert [row["val_chamfer_l1"] != "" for row in history] == [False, True, False]
    assert metrics["best_val_chamfer_l1"] == pytest.approx(float(history[1]["val_chamfer_l1"]))
    assert metrics["items"] == 32 - 6
    assert metrics["selection"] == "validation split"
    assert read_checkpoint(tmp_path / metrics["best_weights"]).metadata["epochs"] == 2
    assert read_checkpoint(tmp_path / "ckpt-best.pth").title == "Point-BERT, tokenizer"


def test_shapes_are_held_out_by_their_content_and_copies_with_them(tmp_path):
    points = np.repeat(clouds(20, 80).numpy(), 2, axis=0)
    held_out = []
    for name, order in (("a", np.arange(40)), ("b", np.arange(40)[::-1])):
        np.savez(tmp_path / f"{name}.npz", points=points[order])
        given = [f"data.source={tmp_path / name}.npz", "validate_every=1"]
        config = load_config(PretrainConfig, [], [*TOKENIZER, *given])
        data = load_pretraining_data(config, 64, find_protocol(config.protocol))
        assert len(data.held_out) == 8
        assert not set(data.train.digests) & set(data.held_out.digests)
        held_out.append(set(data.held_out.digests))
    assert held_out[0] == held_out[1]


def test_as_published_the_test_split_is_held_out(tmp_path):
    layouts.write_shapenet(tmp_path)
    given = [f"data.source={tmp_path}", "data.variant=shapenet55", "protocol=published"]
    config = load_config(PretrainConfig, [], [*TOKENIZER, *given, "validate_every=1"])
    data = load_pretraining_data(config, 16, find_protocol(config.protocol))
    assert data.held_out is not None
    check = RebuildingCheck(clouds(2, 16), data.draw, 1, lambda *found: None, data.split)
    assert check.metric == "test_chamfer_l1"
    assert len(data.held_out) > 0
    assert not set(data.train.ids) & set(data.held_out.ids)
    seen = data.draw(torch.from_numpy(data.held_out.points))
    assert seen.shape[1:] == (16, 3)
    torch.testing.assert_close(seen.norm(dim=2).amax(dim=1), torch.ones(len(seen)))


def test_an_svm_needs_an_encoder(archive, tmp_path):
    given = [f"data.source={archive}", f"svm.source={archive}", "svm.num_points=64"]
    with pytest.raises(ConfigError, match=r"svm\.source"):
        pretrain(load_config(PretrainConfig, [], [*TOKENIZER, *given]), tmp_path / "run")


def test_encoders_and_nothing_to_hold_out_are_refused(run_pretrain):
    with pytest.raises(ConfigError, match=r"validate_every.*svm\.source"):
        run_pretrain("validate_every=1")
    with pytest.raises(ConfigError, match=r"data\.val_fraction=0\.0"):
        run_pretrain("validate_every=1", "data.val_fraction=0", name="all")
