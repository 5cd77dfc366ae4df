"""Point-MAE: encoder, classification and masked pre-training."""

import pytest
import torch

from pointpeft.errors import DataError, PointPeftError
from pointpeft.models import Geometry
from pointpeft.models.tokenizer import Patches
from tests.models.tiny import clouds, settle, tiny


def test_positions_are_added_before_every_block(points):
    model = settle(tiny()).eval()
    tokens, centers = model.tokenizer(points)
    positions = model.pos_embed(centers)
    for block in model.blocks:
        tokens = block(tokens + positions, Geometry(points, centers))
    torch.testing.assert_close(model(points).tokens, model.norm(tokens))


def test_stochastic_depth_rises_over_the_blocks():
    rates = [block.drop_path.rate for block in tiny(depth=3, drop_path=0.4).blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])


def test_retrieval_features_are_the_maximum_over_tokens(points):
    model = settle(tiny()).eval()
    assert torch.equal(model.retrieval_features(points), model(points).tokens.max(dim=1).values)


def test_class_features_are_the_class_token_and_the_maximum(points):
    model = settle(tiny("classification")).eval()
    seen = []
    model.backbone.norm.register_forward_hook(lambda module, args, output: seen.append(output))
    features = model.forward_features(points)
    (x,) = seen
    assert x.shape == (3, 1 + 8, 24)
    assert torch.equal(features, torch.cat([x[:, 0], x[:, 1:].max(1).values], dim=1))
    torch.testing.assert_close(model(points), model.head(features))


@pytest.mark.parametrize("task", ["features", "classification"])
def test_bfloat16_autocast_stays_close(task, points):
    model = settle(tiny(task)).eval()
    with torch.no_grad():
        exact = model(points)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(points)
    if task == "features":
        assert torch.equal(rough.centers, exact.centers)
        exact, rough = exact.tokens, rough.tokens
    error = (rough.float() - exact).norm() / exact.norm()
    assert error < 0.02


def test_pretraining_under_autocast_has_a_float32_loss_close_to_the_exact_one(points):
    model = settle(tiny("pretraining")).eval()
    mask = torch.arange(8).expand(3, -1) < 4
    with torch.no_grad():
        exact = model(points, mask)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(points, mask)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize("settings", [{}, {"embed_masked": False}, {"mask_type": "block"}], ids=str)
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_of_pretraining_is_finite_and_falls(settings, loss, points):
    model = tiny("pretraining", loss=loss, drop_path=0.0, **settings)
    mask = torch.arange(8).expand(3, -1) < 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        losses.append(model(points, mask))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert all(value.isfinite() for value in losses)
    assert losses[-1] < losses[0]
    assert model(points).isfinite()  # with a drawn mask


def test_the_target_is_the_hidden_patches(points):
    model = tiny("pretraining").eval()
    mask = torch.zeros(3, 8, dtype=torch.bool)
    mask[0, :3] = mask[1, 2:5] = mask[2, 5:] = True
    visible = model.encode_visible(points, mask)
    rebuilt, target = model.rebuild(visible), visible.target
    patches = model.backbone.tokenizer.group(points).neighborhoods
    assert rebuilt.shape == target.shape == (9, 8, 3)
    assert torch.equal(target, torch.cat([patches[0, :3], patches[1, 2:5], patches[2, 5:]]))


@pytest.mark.parametrize("embed_masked", [False, True])
def test_hidden_patches_reach_visible_tokens_only_when_embedded(embed_masked, points, monkeypatch):
    """In train mode the BatchNorm of the mini-PointNet is the only way from one to the other."""
    model = tiny("pretraining", embed_masked=embed_masked, drop_path=0.0).train()
    seen = []
    model.backbone.norm.register_forward_hook(lambda module, args, output: seen.append(output))
    mask = torch.arange(8).expand(3, -1) < 5
    patches, centers = model.backbone.tokenizer.group(points)
    for change in (0.0, 10.0):
        changed = patches + change * mask[:, :, None, None]
        monkeypatch.setattr(
            model.backbone.tokenizer, "group", lambda _, p=changed: Patches(p, centers)
        )
        model.encode_visible(points, mask)
    assert seen[0].shape == (3, 3, 24)
    assert torch.equal(seen[0], seen[1]) != embed_masked


def test_the_same_visible_tokens_are_encoded_either_way_in_eval_mode(points):
    model = settle(tiny("pretraining", embed_masked=True)).eval()
    other = tiny("pretraining", embed_masked=False).eval()
    other.load_state_dict(model.state_dict())
    mask = torch.arange(8).expand(3, -1) < 5
    torch.testing.assert_close(model(points, mask), other(points, mask))


def test_a_ratio_that_hides_no_patch_is_refused():
    with pytest.raises((PointPeftError, ValueError), match="mask_ratio"):
        tiny("pretraining", mask_ratio=0.1)(clouds())


def test_a_mask_with_unequal_counts_is_refused(points):
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, :2] = mask[1, :6] = True
    with pytest.raises(DataError, match="mask"):
        tiny("pretraining")(points[:2], mask)


@pytest.mark.parametrize("name", ["point_mae", "pcp_mae"])
@pytest.mark.parametrize("value", [False, True])
def test_a_mask_that_hides_nothing_or_all_is_refused(points, name, value):
    with pytest.raises(DataError, match="mask"):
        tiny("pretraining", name)(points[:2], torch.full((2, 8), value))
