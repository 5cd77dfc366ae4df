"""PCP-MAE: codes of centers, and pre-training that predicts them."""

import dataclasses

import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    PCP_MAE_CLASSIFICATION,
    PCP_MAE_PRETRAINED,
    PCP_MAE_SEGMENTATION,
)
from pointpeft.compat.checkpoints.checkpoint_converter import convert
from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.checkpoints.checkpoint_writer import pth_layout, save_pth
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models.pcp_mae import position_code
from pointpeft.models.pcp_mae_pretraining import code_error
from pointpeft.models.point_mae_pretraining import mask_patches
from pointpeft.models.tokenizer import Patches
from tests.models.test_published import publish
from tests.models.tiny import clouds, settle, tiny

LAYOUTS = {
    "pretraining": PCP_MAE_PRETRAINED,
    "classification": PCP_MAE_CLASSIFICATION,
    "part_segmentation": PCP_MAE_SEGMENTATION,
}
MASK = torch.arange(8).expand(3, -1) < 5


def encode(model, points):
    return model.encode(points, mask_patches(model.backbone, points, MASK, None))


def test_the_code_of_a_center_is_that_of_the_paper():
    code = position_code(torch.tensor([[0.5, -0.25, 1.0]]), 12)
    x, y, z = (
        [torch.tensor([v, v / 100]).sin(), torch.tensor([v, v / 100]).cos()]
        for v in (0.5, -0.25, 1.0)
    )
    torch.testing.assert_close(code, torch.cat([*x, *y, *z]).unsqueeze(0))


def test_a_width_without_room_for_all_waves_is_refused():
    with pytest.raises(ConfigError, match="dim=32"):
        pp.create_model("pcp_mae_small", dim=32, num_heads=4)


def test_visible_patches_do_not_see_hidden_ones(points, monkeypatch):
    """In eval mode, where BatchNorm does not mix them; hidden patches see both."""
    model = settle(tiny("pretraining", "pcp_mae")).eval()
    patches, centers = model.backbone.tokenizer.group(points)
    seen = []
    for hidden in (MASK, ~MASK):
        for change in (0.0, 10.0):
            changed = patches + change * hidden[:, :, None, None]
            monkeypatch.setattr(
                model.backbone.tokenizer, "group", lambda _, p=changed: Patches(p, centers)
            )
            seen.append(encode(model, points))
    assert torch.equal(seen[0].visible, seen[1].visible)
    assert not torch.equal(seen[2].visible, seen[3].visible)
    assert not torch.equal(seen[2].hidden, seen[3].hidden)


def test_visible_patches_are_encoded_as_by_the_encoder_alone(points):
    model = settle(tiny("pretraining", "pcp_mae")).eval()
    found, visible = encode(model, points).visible, ~MASK
    stream = model.backbone.embed(points)
    kept = {name: getattr(stream, name)[visible].view(3, 3, -1) for name in ("tokens", "positions")}
    alone = model.backbone.encode(dataclasses.replace(stream, **kept))
    torch.testing.assert_close(found, alone)


def test_hidden_centers_reach_the_loss_alone(points, monkeypatch):
    """Neither the encoder nor the decoder is told where the hidden patches are."""
    model = settle(tiny("pretraining", "pcp_mae")).eval()
    patches, centers = model.backbone.tokenizer.group(points)
    losses = []
    for shift in (0.0, 0.3):
        moved = centers + shift * MASK.unsqueeze(-1)
        monkeypatch.setattr(
            model.backbone.tokenizer, "group", lambda _, c=moved: Patches(patches, c)
        )
        losses.append(model.losses(points, MASK))
    assert torch.equal(losses[0]["reconstruction"], losses[1]["reconstruction"])
    assert not torch.equal(losses[0]["centers"], losses[1]["centers"])


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_files_with_a_head_of_a_single_layer_come_back(form, points, tmp_path):
    """As the papers' code keeps them and as ours; a fresh head is the usual one."""
    model = pp.get_peft_model(tiny("classification", "pcp_mae"), pp.LinearConfig(head="linear"))
    settle(model.model.head)
    expected = model.eval()(points)
    file = tmp_path / f"model.{form}"
    (save_pth if form == "pth" else pp.save_model)(model.merge_adapter(), file)
    loaded = tiny("classification", "pcp_mae", checkpoint=file)
    torch.testing.assert_close(loaded.eval()(points), expected)
    assert len(tiny("classification", "pcp_mae", checkpoint=file, reset_head=True).head) > 1
    if form == "pth":
        convert(file, tmp_path / "converted.safetensors")
        same = tiny("classification", "pcp_mae", checkpoint=tmp_path / "converted.safetensors")
        torch.testing.assert_close(same.eval()(points), expected)


@pytest.mark.parametrize("detached", [True, False])
def test_rebuilding_trains_the_prediction_of_centers_only_if_asked_to(detached, points):
    model = settle(tiny("pretraining", "pcp_mae", detach_centers=detached)).eval()
    model.losses(points, MASK)["reconstruction"].backward()
    found = [p.grad for p in (*model.center_head.parameters(), model.mask_pos_token)]
    trained = [gradient is not None and bool(gradient.any()) for gradient in found]
    assert trained == [not detached] * len(trained)
    assert all(p.grad is not None for p in model.backbone.pos_embed.parameters())


def test_the_loss_is_the_weighted_sum_of_its_terms(points):
    model = settle(tiny("pretraining", "pcp_mae", centers=0.5)).eval()
    terms = model.losses(points, MASK)
    torch.testing.assert_close(
        model(points, MASK), terms["reconstruction"] + 0.5 * terms["centers"]
    )


def test_errors_of_codes():
    true = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 4.0]]])
    found = {kind: code_error(predicted, true, kind) for kind in ("l2", "l1", "smooth_l1")}
    assert {kind: value.item() for kind, value in found.items()} == {
        "l2": 2.0, "l1": 1.0, "smooth_l1": 0.75,
    }  # fmt: skip
    expected = 1 - (1 / 5**0.5 + 1) / 2
    assert code_error(predicted, true, "cosine").item() == pytest.approx(expected)
    assert code_error(true, true, "cosine").item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("settings", [{"center_depth": 2}, {"mask_type": "block"}], ids=str)
@pytest.mark.parametrize("center_loss", ["l1", "smooth_l1", "cosine"])
def test_the_loss_falls(settings, center_loss, points):
    torch.manual_seed(0)
    model = tiny("pretraining", "pcp_mae", center_loss=center_loss, drop_path=0.0, **settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        losses.append(model(points, MASK))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_stochastic_depth_draws_for_both_streams(points):
    """With a rate near 1 both branches are dropped almost always, but not together."""
    torch.manual_seed(0)
    model = settle(tiny("pretraining", "pcp_mae", drop_path=0.5)).train()
    model.backbone.tokenizer.eval()
    kept = []
    model.backbone.blocks[2].drop_path.register_forward_hook(
        lambda _, args, output: kept.append((output != 0).flatten(1).any(1))
    )
    for _ in range(8):
        encode(model, points)
    visible, hidden = torch.stack(kept[::2]), torch.stack(kept[1::2])
    for stream in (visible, hidden):
        assert stream.any()
        assert not stream.all()
    assert not torch.equal(visible, hidden)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("center_loss", "l3"), ("centers", -1.0), ("center_depth", -1), ("detach_centers", 1.5),
     ("mask_ratio", 0.05)],
)  # fmt: skip
def test_unusable_settings_are_refused(setting, value):
    with pytest.raises(ConfigError, match=setting):
        tiny("pretraining", "pcp_mae", **{setting: value})


@pytest.mark.parametrize("task", LAYOUTS)
def test_a_published_file_gives_the_same_model(task, tmp_path):
    extra = {"center_depth": 1} if task == "pretraining" else {}
    model = settle(tiny(task, "pcp_mae", **extra))
    assert pth_layout(model).name == LAYOUTS[task].name
    path = publish(tmp_path / "model.pth", LAYOUTS[task].theirs(model.state_dict()))
    assert read_checkpoint(path).title == LAYOUTS[task].name
    loaded = tiny(task, "pcp_mae", checkpoint=path, **extra).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    report = convert(path, tmp_path / "ours.safetensors")  # what it is shows in the file
    assert not report.left
    assert not report.fresh


@pytest.mark.parametrize("names", [("pcp_mae", "point_mae"), ("point_mae", "pcp_mae")], ids=str)
def test_a_file_of_the_other_encoder_is_refused_by_its_name(names, tmp_path):
    own, other = names
    model = tiny("classification", own)
    path = publish(tmp_path / "model.pth", pth_layout(model).theirs(model.state_dict()))
    with pytest.raises(CheckpointError, match=own):
        tiny("classification", other, checkpoint=path)


@pytest.mark.parametrize(
    ("task", "count"),
    [({"num_classes": 15}, 22_338_959), ({"num_classes": 40}, 22_345_384),
     ({"num_parts": 50}, 27_309_362), ({"task": "pretraining"}, 29_498_848)],
    ids=str,
)  # fmt: skip
def test_parameters_are_those_of_the_paper(task, count):
    model = pp.create_model("pcp_mae", **task)
    assert sum(p.numel() for p in model.parameters()) == count


def test_features_of_clouds_of_other_sizes():
    model = tiny("features", "pcp_mae").eval()
    assert model.retrieval_features(clouds(2, 200)).shape == (2, 24)
