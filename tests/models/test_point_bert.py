"""Point-BERT in training: masks, mixing, momentum, queue and tokenizer."""

import math

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models.dvae import DiscreteVAE
from pointpeft.models.layers import EdgeConv
from tests.models.tiny import clouds, settle, tiny


def bert(**settings):
    torch.manual_seed(0)
    return tiny("pretraining", "point_bert", **settings)


def patches_of(model, points):
    return model.backbone.tokenizer.group(points)


def test_an_edge_convolution_is_the_layer_on_written_out_edges():
    layer = EdgeConv(6, 8)
    queries, sources = torch.randn(2, 5, 6), torch.randn(2, 7, 6)
    neighbours = torch.randint(7, (2, 5, 3))
    edges = torch.empty(2, 5, 3, 12)
    for b in range(2):
        for q in range(5):
            for k in range(3):
                f = sources[b, neighbours[b, q, k]]
                edges[b, q, k] = torch.cat([f - queries[b, q], queries[b, q]])
    x = layer.norm(layer.linear(edges).permute(0, 3, 1, 2))
    expected = F.leaky_relu(x, 0.2).amax(-1).transpose(1, 2)
    torch.testing.assert_close(layer(queries, sources, neighbours), expected)


def test_an_edge_convolution_has_the_gradient_of_its_values():
    layer = EdgeConv(2, 4).double()
    queries = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    sources = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    neighbours = torch.randint(4, (1, 3, 2))
    torch.autograd.gradcheck(lambda q, s: layer(q, s, neighbours), (queries, sources))


def test_blocks_of_neighbours_are_hidden_with_a_ratio_for_each_cloud():
    model = bert(num_groups=32, mask_ratio=(0.25, 0.45))
    centers = patches_of(model, clouds(40)).centers
    mask = model.draw_mask(centers)
    counts = mask.sum(dim=1)
    assert counts.min() >= 8
    assert counts.max() < 15
    assert counts.unique().numel() > 3
    for row, hidden in zip(centers, mask, strict=True):
        distance = torch.cdist(row[hidden], row)  # from some hidden patch, all hidden are nearest
        nearest = distance.argsort(dim=1)[:, : int(hidden.sum())]
        assert any(hidden[places].all() for places in nearest)


def test_random_masks_share_one_ratio():
    model = bert(num_groups=64, group_size=4, mask_ratio=(0.5, 0.5), random_mask=True)
    mask = model.draw_mask(torch.rand(50, 64, 3))
    assert mask.float().mean() == pytest.approx(0.5, abs=0.05)
    assert mask.sum(dim=1).unique().numel() > 5


def test_hidden_patches_are_not_seen():
    model = settle(bert(drop_path=0.0)).eval()
    patches = patches_of(model, clouds())
    mask = (torch.arange(8) < 3).expand(3, -1)
    other = patches._replace(
        neighborhoods=patches.neighborhoods + 5.0 * mask[:, :, None, None].float()
    )
    seen = model.masked_logits(patches, mask)
    for masked, of_mask in ((True, mask), (False, ~mask)):
        again = model.masked_logits(other, of_mask)
        assert torch.equal(again.feature, seen.feature) == masked
    assert torch.equal(model.masked_logits(other, mask).logits, seen.logits)


@pytest.mark.parametrize("all_tokens", [False, True])
def test_logits_are_those_of_the_asked_patches(all_tokens):
    model = settle(bert(all_tokens=all_tokens)).eval()
    patches = patches_of(model, clouds())
    mask = torch.rand(3, 8) < 0.5
    masked = model.masked_logits(patches, mask)
    x, _ = model.encode(patches, mask)
    asked = torch.ones_like(mask) if all_tokens else mask
    assert torch.equal(masked.asked, asked)
    torch.testing.assert_close(masked.logits, model.lm_head(x[:, 1:])[asked])


def test_random_masks_hide_a_patch_of_every_cloud():
    model = bert(mask_ratio=(0.01, 0.01), random_mask=True)
    assert model.draw_mask(torch.rand(50, 8, 3)).any(dim=1).all()
    assert all(loss.isfinite() for loss in model.losses(clouds(4)).values())


def test_replaced_tokens_are_asked_for_and_carry_no_gradient():
    model = bert(replace_probability=1.0)
    mask = (torch.arange(8) < 3).expand(3, -1)
    masked = model.masked_logits(patches_of(model, clouds()), mask)
    assert masked.asked.all()
    masked.logits.sum().backward()
    assert not any(
        p.grad is not None and p.grad.any() for p in model.backbone.tokenizer.embed.parameters()
    )


def test_mixing_takes_patch_center_and_label_of_the_mirrored_cloud():
    model = settle(bert()).eval()
    points = clouds(4)
    masks = tuple(torch.zeros(4, 8, dtype=torch.bool) for _ in range(3))
    nothing, all_ = torch.zeros(4), torch.ones(4)
    uniform = torch.full((4, 8), 0.5)
    features = []
    model.cls_head.register_forward_hook(lambda m, i, out: features.append(out))
    for ratio in (all_, nothing):
        model.losses(points, masks, (ratio, uniform))
    plain, kept, again, swapped = features
    torch.testing.assert_close(kept, plain)
    torch.testing.assert_close(swapped, again.flip(0))


def test_the_key_network_moves_before_it_encodes():
    model = settle(bert(momentum=0.75)).train()
    with torch.no_grad():
        for parameter in model.key.parameters():
            parameter.zero_()
    before = model.lm_head.weight.clone()
    model.losses(clouds(4))
    torch.testing.assert_close(model.key.lm_head.weight, 0.25 * before)
    features = []
    model.key.cls_head.register_forward_hook(
        lambda m, i, out: features.append((out, m[0].weight.clone()))
    )
    expected = 0.75 * model.key.cls_head[0].weight + 0.25 * model.cls_head[0].weight
    model.losses(clouds(4))
    torch.testing.assert_close(features[0][1], expected)


def test_only_training_moves_the_key_network_and_the_queue():
    model = settle(bert(momentum=0.5, drop_path=0.0)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(clouds(4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_batch_larger_than_the_queue_is_refused():
    with pytest.raises(ConfigError, match=r"17.*queue_size=16"):
        bert()(clouds(17))


def test_the_queue_is_a_ring():
    model = bert().train()
    for step in range(5):
        old = model.queue.clone()
        model(clouds(4, seed=step))
        places = [(4 * step + i) % 16 for i in range(4)]
        changed = (model.queue != old).any(dim=0)
        assert changed.nonzero().flatten().tolist() == sorted(places)
    assert int(model.queue_ptr) == 20 % 16
    torch.testing.assert_close(model.queue.norm(dim=0), torch.ones(16))


@pytest.mark.parametrize("reference_compat", [False, True])
def test_the_tokenizer_stays_as_it_is_unless_as_published(reference_compat):
    model = bert(reference_compat=reference_compat).train()
    statistics = model.dvae.embed.first_conv[1].running_mean.clone()
    model(clouds(4))
    assert torch.equal(statistics, model.dvae.embed.first_conv[1].running_mean) != reference_compat
    assert not any(p.requires_grad for p in model.dvae.parameters())


def test_pretraining_starts_from_a_trained_tokenizer(tmp_path):
    dvae = settle(tiny("pretraining", "point_bert_dvae", token_dim=20, decoder_dim=32))
    pp.save_model(dvae, tmp_path / "tokenizer.safetensors")
    model = bert(tokenizer=str(tmp_path / "tokenizer.safetensors"))
    for name, tensor in dvae.state_dict().items():
        assert torch.equal(model.dvae.state_dict()[name], tensor)
    embed = model.backbone.tokenizer.embed.state_dict()
    assert all(torch.equal(embed[n], t) for n, t in dvae.embed.state_dict().items())
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.key.backbone.parameters(), model.backbone.parameters(), strict=True)
    )
    pp.save_model(model, tmp_path / "whole.safetensors")
    (tmp_path / "tokenizer.safetensors").unlink()
    again = bert(checkpoint=tmp_path / "whole.safetensors").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("task", ["features", "classification", "pretraining"])
def test_the_key_network_is_a_copy_of_the_query_unless_the_checkpoint_has_one(task, tmp_path):
    pp.save_model(settle(tiny(task, "point_bert")), tmp_path / "weights.safetensors")
    model = bert(checkpoint=tmp_path / "weights.safetensors")
    query = model.state_dict()
    same = [torch.equal(tensor, query[name]) for name, tensor in model.key.state_dict().items()]
    assert all(same) == (task != "pretraining")


def test_two_views_of_a_cloud_are_no_two_clouds():
    points = clouds(2)
    masks, mix = (
        ((torch.arange(8) < 3).expand(2, -1),) * 3,
        (torch.full((2,), 0.5), torch.rand(2, 8)),
    )
    one, two = (settle(bert(contrast=weight)).eval() for weight in (0.0, 1.0))
    two.load_state_dict(one.state_dict(), strict=False)
    kept = mix[1] < 0.5
    mirrored = torch.cat([kept, kept]), torch.cat([mix[0], mix[0]])
    found = two.losses(
        torch.cat([points, points]), [torch.cat([m, m]) for m in masks],
        (mirrored[1], torch.where(mirrored[0], 0.0, 1.0)),
    )  # fmt: skip
    expected = one.losses(points, masks, (mix[0], torch.where(kept, 0.0, 1.0)))
    torch.testing.assert_close(found["mix"], expected["mix"])


def test_under_autocast_tokens_are_the_exact_ones_and_losses_float32_and_close():
    model = settle(bert(moco_loss=True)).eval()
    points, masks = clouds(4), ((torch.arange(8) < 3).expand(4, -1),) * 3
    mix = torch.full((4,), 0.5), torch.rand(4, 8)
    tokens, labels = model.dvae.tokens, []
    model.dvae.tokens = lambda patches: labels.append(tokens(patches)) or labels[-1]
    with torch.no_grad():
        exact = model.losses(points, masks, mix)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.losses(points, masks, mix)
    assert torch.equal(labels[0], labels[1])
    assert {loss.dtype for loss in rough.values()} == {torch.float32}
    for name, loss in rough.items():
        torch.testing.assert_close(loss, exact[name], rtol=0.03, atol=0.01)


def test_a_tokenizer_of_another_vocabulary_does_not_fit(tmp_path):
    pp.save_model(tiny("pretraining", "point_bert_dvae"), tmp_path / "tokenizer.safetensors")
    with pytest.raises(CheckpointError, match="codebook"):
        bert(tokenizer=str(tmp_path / "tokenizer.safetensors"), num_tokens=16)


def test_an_encoder_is_no_tokenizer(tmp_path):
    pp.save_model(tiny("features", "point_bert"), tmp_path / "encoder.safetensors")
    with pytest.raises(CheckpointError, match=r"'point_bert'.*`tokenizer`.*point_bert_dvae"):
        bert(tokenizer=str(tmp_path / "encoder.safetensors"))


def dvae(**settings) -> DiscreteVAE:
    torch.manual_seed(0)
    return tiny("pretraining", "point_bert_dvae", **settings)


@pytest.mark.parametrize(
    ("step", "temperature", "weight"),
    [
        (0, 1.0, 0.0),
        (10_000, 0.0625 + 0.9375 * (1 + math.cos(math.pi / 10)) / 2, 0.0),
        (50_000, 0.53125, 0.1 - 0.1 * (1 + math.cos(0.4 * math.pi)) / 2),
        (100_000, 0.0625, 0.1 - 0.1 * (1 + math.cos(0.9 * math.pi)) / 2),
        (300_000, 0.0625, 0.1),
    ],
)
def test_schedules_of_the_tokenizer(step, temperature, weight):
    model = dvae()
    model.step = step
    assert model.temperature == pytest.approx(temperature)
    assert model.divergence_weight == pytest.approx(weight)


def test_uniform_use_of_tokens_has_no_divergence():
    model = dvae()
    rebuilt = model.reconstruct(model.group(clouds()), 1.0)
    even = rebuilt._replace(logits=torch.zeros_like(rebuilt.logits))
    one = torch.full_like(rebuilt.logits, -20.0)
    one[..., 0] = 20.0
    target = model.group(clouds()).neighborhoods
    assert model.losses_of(even, target)["divergence"] == pytest.approx(0, abs=1e-6)
    assert model.losses_of(rebuilt._replace(logits=one), target)["divergence"] > 10


def test_hard_samples_are_one_hot_with_a_soft_gradient():
    model = dvae()
    patches = model.group(clouds())
    seen = []
    model.decode = lambda weights, centers: seen.append(weights) or (weights, weights)
    model.reconstruct(patches, 0.7, hard=True)
    assert set(seen[0].detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    assert seen[0].requires_grad


def test_noise_makes_samples_follow_the_logits():
    model = dvae()
    patches = model.group(clouds(2))
    model.logits = lambda _: torch.tensor([0.0, 1.0, 2.0]).expand(2, 4000, 3)
    seen = []
    model.decode = lambda weights, centers: seen.append(weights) or (weights, weights)
    model.reconstruct(patches, 1.0, hard=True)
    shares = seen[0].detach().flatten(0, 1).mean(dim=0)
    torch.testing.assert_close(
        shares, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.03, rtol=0.05
    )


def test_the_tokenizer_under_autocast_has_float32_losses_close_to_the_exact_ones():
    model = settle(dvae()).eval()
    patches = model.group(clouds())
    with torch.no_grad():
        exact = model.reconstruct(patches, 1.0, noise=False)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.reconstruct(patches, 1.0, noise=False)
            drawn = model.reconstruct(patches, 0.5)
            losses = model.losses_of(rough, patches.neighborhoods)
    assert drawn.logits.dtype == torch.float32
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    for name, loss in model.losses_of(exact, patches.neighborhoods).items():
        torch.testing.assert_close(losses[name], loss, rtol=0.03, atol=0.01)


@pytest.mark.parametrize(
    "settings",
    [{"group_size": 6}, {"patch_widths": (8,)}, {"patch_widths": 8}, {"skip_near_origin": "x"}],
    ids=str,
)
def test_sizes_of_the_tokenizer_that_do_not_work_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        dvae(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_ratio": (0.5, 0.2)},
        {"mask_ratio": 0.3},
        {"mask_ratio": (math.nan, 0.5)},
        {"mask_ratio": (0.1, 0.5)},  # of 8 patches
        {"temperature": 0.0},
        {"temperature": math.inf},
        {"momentum": 1.5},
        {"replace_probability": -0.1},
        {"embed_dim": None},
    ],
    ids=str,
)
def test_settings_of_pretraining_that_do_not_work_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        bert(**settings)


def test_part_segmentation_needs_channels_for_its_norms():
    with pytest.raises(ConfigError, match=r"dim .*4.*18"):
        tiny("part_segmentation", "point_bert", dim=18)


def test_combinations_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"token_loss.*mix_loss"):
        bert(token_loss=False, mix_loss=False)
    with pytest.raises(ConfigError, match=r"point_bert_dvae.*pretraining"):
        pp.create_model("point_bert_dvae", num_classes=3)
