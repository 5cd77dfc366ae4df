"""Point-M2AE: scales, masks carried through them, the models on top, published checkpoints."""

import pytest
import torch
from torch import nn

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    point_m2ae_classification_layout,
    point_m2ae_pretrained_layout,
    point_m2ae_segmentation_layout,
)
from pointpeft.compat.checkpoints.layouts import LAYOUTS
from pointpeft.compat.pretraining import first_token_seen, leaky_padding_bias, published_features
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.models.checkpoint import recognise
from pointpeft.models.hierarchy import (
    BLOCKED,
    ScaleTokenizer,
    group_scales,
    hide_finer,
    hide_scales,
    local_bias,
    pack_visible,
    padding_bias,
)
from pointpeft.models.point_m2ae import PointM2AEConfig
from pointpeft.models.point_m2ae_pretraining import (
    HierarchicalDecoder,
    MaskedScale,
    PointM2AEPretrainingConfig,
    ResidualMlp,
    TokenPropagation,
)
from pointpeft.ops import farthest_point_sample, gather_points
from tests.models.tiny import FOUR, TWO, clouds, settle, tiny

# Visible groups differ in number between these clouds at every finer scale.
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 1, 1]])
LAYOUTS_BY_TASK = {
    "pretraining": point_m2ae_pretrained_layout,
    "classification": point_m2ae_classification_layout,
    "part_segmentation": point_m2ae_segmentation_layout,
}


def m2ae(task="features", **settings):
    return tiny(task, "point_m2ae", **settings)


def same_weights(model, other):
    other.load_state_dict(model.state_dict())
    return other.train(model.training)


@pytest.fixture
def mask():
    return MASK.bool()


# --- groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [False, True])
def test_centers_of_a_scale_are_the_farthest_of_the_finer_ones(skip):
    points = clouds(3, 100) * torch.rand(3, 100, 1)
    points[0, 50:] = points[0, :50]  # duplicates
    levels = group_scales(points, (60, 30, 7), (8, 4, 4), skip)
    parents = points
    for level, G in zip(levels, (60, 30, 7), strict=True):
        chosen = farthest_point_sample(parents, G, skip)
        assert torch.equal(level.centers, gather_points(parents, chosen))
        parents = level.centers


def test_members_are_the_nearest_of_the_finer_scale_within_their_cloud(points):
    levels = group_scales(points, (24, 16, 8), (8, 4, 4))
    parents = points
    for level, K in zip(levels, (8, 4, 4), strict=True):
        for b, cloud in enumerate(parents):
            nearest = torch.cdist(level.centers[b].double(), cloud.double()).argsort(dim=1)[:, :K]
            assert torch.equal(level.indices[b], nearest)
            expected = cloud[nearest] - level.centers[b][:, None]
            torch.testing.assert_close(level.neighborhoods[b], expected)
        parents = level.centers


def test_clouds_with_too_few_points_are_refused():
    with pytest.raises(DataError, match=r"20.*24.*8"):
        m2ae()(clouds(2, 20))


def test_coarser_tokens_are_made_of_the_tokens_of_their_members(points):
    tokenizer = settle(ScaleTokenizer(8, 4, 12, 18, (12, 12, 18))).eval()
    level = group_scales(points, (16, 8), (8, 4))[1]
    finer = torch.randn(3, 16, 12)
    pairs = zip(finer, level.indices, strict=True)
    members = torch.stack([tokens[index] for tokens, index in pairs])
    torch.testing.assert_close(tokenizer(level, finer), tokenizer.embed(members))


# --- masks ----------------------------------------------------------------------------------------


def visible_by_hand(level, hidden):
    """Per cloud, the set of finer tokens that some visible group contains."""
    return [
        {int(i) for group, gone in zip(cloud, mask, strict=True) if not gone for i in group}
        for cloud, mask in zip(level.indices, hidden, strict=True)
    ]


def test_a_finer_token_is_visible_where_a_visible_group_contains_it(points, mask):
    levels = group_scales(points, (24, 16, 8), (8, 4, 4))
    masks = hide_scales(levels, mask)
    assert torch.equal(masks[-1], mask)
    for finer, level, hidden in zip(masks[:-1], levels[1:], masks[1:], strict=True):
        shown = [set((~row).nonzero().flatten().tolist()) for row in finer]
        assert shown == visible_by_hand(level, hidden)
    counts = [(~m).sum(dim=1).unique().numel() for m in masks[:-1]]
    assert all(count > 1 for count in counts), "the case should show different numbers"


def test_hiding_nothing_hides_only_what_no_group_contains(points):
    levels = group_scales(points, (24, 6), (8, 2))
    hidden = hide_finer(torch.zeros(3, 6, dtype=torch.bool), levels[1].indices, 24)
    for row, index in zip(hidden, levels[1].indices, strict=True):
        assert set((~row).nonzero().flatten().tolist()) == set(index.flatten().tolist())


def test_as_published_the_first_token_of_the_first_cloud_is_always_visible(points):
    levels = group_scales(points, (24, 16, 8), (8, 4, 4))
    # Groups that contain the first token are hidden, so it should be hidden too.
    mask = (levels[-1].indices == 0).any(dim=-1)
    mask[:, -1] = mask[:, 1] | mask[:, -1]
    ours, published = hide_scales(levels, mask), first_token_seen(levels, mask)
    assert ours[1][:, 0].all()
    assert published[1][:, 0].tolist() == [False, True, True]
    assert not published[0][0, 0]
    ours[1][0, 0] = False
    assert torch.equal(ours[1], published[1])


def test_visible_tokens_move_to_the_front_and_back(mask):
    tokens = torch.randn(3, 8, 5)
    packing = pack_visible(mask)
    packed = packing.pack(tokens)
    assert packed.shape == (3, 3, 5)
    for row, cloud, hidden in zip(packed, tokens, mask, strict=True):
        count = int((~hidden).sum())
        assert torch.equal(row[:count], cloud[~hidden])
        assert not row[count:].any()
    assert torch.equal(packing.unpack(packed, tokens), tokens)
    doubled = packing.unpack(2 * packed + 1, tokens)
    assert torch.equal(doubled[~mask], 2 * tokens[~mask] + 1)
    assert torch.equal(doubled[mask], tokens[mask])


def test_the_local_bias_blocks_what_lies_at_the_radius_or_beyond():
    centers = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0.25, 0, 0], [3.0, 4, 0]]])
    blocked = local_bias(centers, 0.5)[0, 0] == BLOCKED
    by_hand = [[(a - b).norm() >= 0.5 for b in centers[0]] for a in centers[0]]
    assert blocked.tolist() == torch.tensor(by_hand).tolist()
    assert set(local_bias(centers, 0.5).unique().tolist()) == {BLOCKED, 0.0}
    assert local_bias(centers, 0.0) is None
    assert local_bias(centers.double(), 0.5).dtype == torch.float64
    assert local_bias(centers.half(), 0.5).isfinite().all()


def test_padding_is_never_seen_and_no_row_is_blocked_as_a_whole():
    valid = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]]).bool()
    bias = padding_bias(valid, torch.zeros(3, 3, 3), 0.0)
    assert torch.equal(bias[:, 0] == BLOCKED, ~valid[:, None, :].expand(3, 3, 3))
    assert not padding_bias(valid[1:2], torch.zeros(1, 3, 3), 0.0).any()


def test_as_published_padding_is_seen_near_the_origin_only():
    valid = torch.tensor([[True, True, False, False], [True, True, True, False]])
    centers = torch.tensor([[0.1, 0, 0], [0.9, 0, 0], [0.0, 0, 0], [0.0, 0, 0]]).expand(2, -1, -1)
    seen = leaky_padding_bias(valid, centers, 0.5)[0, 0] == 0
    assert seen[:3, :3].tolist() == [[True, True, True], [True, True, False], [True, False, True]]
    assert not seen[:3, 3].any(), "no cloud has a fourth token"
    seen = leaky_padding_bias(valid, centers, 0.0)[0, 0] == 0
    assert seen[:3, :3].tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, False],
    ]


# --- encoder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [TWO, {}, FOUR], ids=["two", "three", "four"])
def test_shapes_with_any_number_of_scales(scales, points):
    encoder = m2ae(**scales).eval()
    tokens, centers = encoder(points)
    G = encoder.config.num_groups[-1]
    assert tokens.shape == (3, G, 24)
    assert centers.shape == (3, G, 3)
    assert encoder.retrieval_features(points).shape == (3, 24)
    outputs = encoder.run_scales(points)
    sizes = zip(encoder.config.num_groups, encoder.config.dims, strict=True)
    assert [tuple(x.tokens.shape) for x in outputs] == [(3, *size) for size in sizes]
    assert m2ae("classification", **scales).eval()(points).shape == (3, 4)
    segmenter = m2ae("part_segmentation", **scales).eval()
    assert segmenter(points, torch.tensor([0, 3, 15])).shape == (3, 64, 5)


def test_positions_are_added_before_every_block_and_distance_limits_attention(points):
    encoder = settle(m2ae()).eval()
    tokens = None
    for scale, level in enumerate(encoder.group(points)):
        tokens = encoder.tokenizers[scale](level, tokens)
        positions = encoder.pos_embeds[scale](level.centers)
        radius = encoder.config.local_radius[scale]
        far = torch.cdist(level.centers, level.centers) >= radius
        for place in encoder.scales[scale].blocks:
            tokens = block_by_hand(encoder.blocks[place], tokens + positions, far)
    torch.testing.assert_close(encoder(points).tokens, encoder.norms[-1](tokens))


def block_by_hand(block, x, blocked):
    """A block with its attention written out for each head."""
    q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
    width = x.shape[-1] // block.attn.num_heads
    heads = []
    for h in range(block.attn.num_heads):
        part = slice(h * width, (h + 1) * width)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
        heads.append(scores.masked_fill(blocked, -torch.inf).softmax(-1) @ v[..., part])
    x = x + block.attn.proj(torch.cat(heads, dim=-1))
    return x + block.mlp(block.norm2(x))


def test_the_blocks_of_a_scale_share_one_geometry_with_its_centers_and_the_context(points):
    model = m2ae("classification").eval()
    seen = []
    for block in model.backbone.blocks:
        block.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    model(points, context={"query": torch.ones(3, 2)})
    levels = model.backbone.group(points)
    assert len(seen) == 4
    for scale, level in enumerate(levels):
        geometries = [seen[place] for place in model.backbone.scales[scale].blocks]
        assert len({id(geometry) for geometry in geometries}) == 1
        assert torch.equal(geometries[0].centers, level.centers)
        assert geometries[0].points is points
        assert geometries[0].context["query"].sum() == 6
        T = level.centers.shape[1]
        assert geometries[0].attention_bias.shape == (3, 1, T, T)


def test_stochastic_depth_rises_over_the_blocks_of_all_scales():
    model = m2ae("pretraining", drop_path=0.3, decoder_depths=(2, 1))
    rates = [block.drop_path.rate for block in model.backbone.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    rates = [block.drop_path.rate for stage in model.decoder.stages for block in stage]
    assert rates == pytest.approx([0.0, 0.15, 0.3])


@pytest.mark.parametrize("local_radius", [(0.3, 0.5, 0.9), (0.0, 0.0, 0.0)])
def test_retrieval_looks_at_whole_clouds_like_pre_training(local_radius, points):
    encoder = settle(m2ae(local_radius=local_radius)).eval()
    everywhere = same_weights(encoder, m2ae(local_radius=(0.0, 0.0, 0.0)))
    tokens = everywhere(points).tokens
    expected = tokens.mean(dim=1) + tokens.max(dim=1).values
    torch.testing.assert_close(encoder.retrieval_features(points), expected)


def test_published_retrieval_leaves_out_what_no_group_contains(points):
    encoder = settle(m2ae(group_sizes=(8, 2, 2))).eval()
    levels = encoder.group(points)
    nothing = torch.zeros(3, 8, dtype=torch.bool)
    assert hide_scales(levels, nothing)[1].any(), "the case should leave something out"
    ours = encoder.retrieval_features(points)
    published = published_features(encoder, points)
    assert ours.shape == published.shape
    assert not torch.allclose(ours, published, atol=1e-6)


# --- classification -------------------------------------------------------------------------------


def test_pooling_as_published(points):
    features, tokens = {}, {}
    for pooling in ("mean+max", "concat"):
        model = settle(m2ae("classification", pooling=pooling)).eval()
        features[pooling] = model.forward_features(points)
        tokens[pooling] = model.backbone(points).tokens
        assert model.num_features == features[pooling].shape[1] == model.head[0].in_features
    x = tokens["mean+max"]
    torch.testing.assert_close(features["mean+max"], x.mean(1) + x.max(1).values)
    x = tokens["concat"]
    expected = torch.cat([x.mean(1), x[:, 1:].max(1).values], dim=1)
    torch.testing.assert_close(features["concat"], expected)


def test_a_new_head_replaces_the_old_one():
    model = m2ae("classification")
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert model.head[-1].out_features == 7
    with pytest.raises(ConfigError, match="num_classes"):
        model.reset_classifier(0)


# --- pre-training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [{}, FOUR], ids=["three", "four"])
def test_encoding_does_not_depend_on_the_visible_counts_of_other_clouds(scales, points, mask):
    model = settle(m2ae("pretraining", **scales)).eval()
    points = 0.3 * points  # near the origin, where padding lies
    mask = mask[:, : model.backbone.config.num_groups[-1]]
    mask[:, 0] = False
    together = model.encode_visible(points, mask).scales
    for b in range(3):
        alone = model.encode_visible(points[b : b + 1], mask[b : b + 1]).scales
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one.hidden[0], all_of_them.hidden[b])
            torch.testing.assert_close(one.tokens[0], all_of_them.tokens[b])


def test_as_published_padding_near_the_origin_is_felt(points, mask):
    ours = settle(m2ae("pretraining")).eval()
    published = same_weights(ours, m2ae("pretraining", reference_compat=True))
    for scale, differs in ((0.3, True), (30.0, False)):
        x, y = (m.encode_visible(scale * points, mask).scales for m in (ours, published))
        # Only clouds with padding can differ; the first is also visible where it should not be.
        same = torch.allclose(x[0].tokens[2], y[0].tokens[2], atol=1e-6)
        assert same != differs


@pytest.mark.parametrize("name", ["point_m2ae", "i2p_mae"])
def test_a_compiled_encoder_pads_as_published_no_more_than_the_longest_cloud(name, points, mask):
    model = settle(tiny("pretraining", name, reference_compat=True, local_radius=(0.3, 0.6, 1.2)))
    points = 0.3 * points

    def encode(points):
        return [scale.tokens for scale in model.eval().encode_visible(points, mask).scales]

    with torch.no_grad():
        eager = encode(points)
        compiled = torch.compile(encode, backend="aot_eager", fullgraph=True)(points)
        hidden = [scale.hidden for scale in model.encode_visible(points, mask).scales]
    for one, other, left_out in zip(eager, compiled, hidden, strict=True):
        torch.testing.assert_close(one[~left_out], other[~left_out])


def test_visible_tokens_are_encoded_among_themselves(points, mask):
    """The first scale, cloud by cloud, without packing."""
    model = settle(m2ae("pretraining")).eval()
    encoder = model.backbone
    scale = model.encode_visible(points, mask).scales[0]
    levels = encoder.group(points)
    embedded = encoder.tokenizers[0](levels[0])
    positions = encoder.pos_embeds[0](levels[0].centers)
    for b, shown in enumerate(~scale.hidden):
        x = embedded[b : b + 1, shown]
        nothing = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
        for place in encoder.scales[0].blocks:
            x = block_by_hand(encoder.blocks[place], x + positions[b : b + 1, shown], nothing)
        torch.testing.assert_close(scale.tokens[b, shown], encoder.norms[0](x)[0])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_hidden_groups_of_the_last_decoded_scale_are_rebuilt(steps, points, mask):
    model = m2ae(
        "pretraining", decoder_depths=(1,) * steps, decoder_residuals=(1, 0)[: steps - 1]
    ).eval()
    masked = model.encode_visible(points, mask)
    rebuilt, target = model.rebuild(masked)
    level, hidden = masked.levels[-steps], masked.scales[-steps].hidden
    count, K = int(hidden.sum()), level.indices.shape[2]
    assert rebuilt.shape == (count, 8, 3)  # as many points as a group of the finest scale has
    assert target.shape == (count, K, 3)
    assert torch.equal(target[0], level.neighborhoods[0][hidden[0]][0])
    assert model(points, mask).isfinite()


@pytest.mark.parametrize("scales", [TWO, FOUR], ids=["two", "four"])
def test_pretraining_works_with_other_numbers_of_scales(scales, points):
    model = m2ae("pretraining", **scales, points_per_group=5)
    loss = model(points)
    loss.backward()
    assert loss.shape == ()
    assert model.rec_head.out_features == 15
    assert model.copies == 1


def test_hidden_tokens_do_not_reach_the_decoder(points, mask):
    model = settle(m2ae("pretraining")).eval()
    masked = model.encode_visible(points, mask)
    noise = [
        s._replace(tokens=s.tokens + s.hidden.unsqueeze(-1) * torch.randn_like(s.tokens))
        for s in masked.scales
    ]
    expected, _ = model.rebuild(masked)
    actual, _ = model.rebuild(masked._replace(scales=noise))
    assert torch.equal(actual, expected)


def test_pretraining_under_autocast_has_a_float32_loss_close_to_the_exact_one(points, mask):
    model = settle(m2ae("pretraining")).eval()
    with torch.no_grad():
        exact = model(points, mask)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(points, mask)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)


def test_a_mask_that_leaves_nothing_to_rebuild_or_to_see_is_refused(points, mask):
    model = m2ae("pretraining", group_sizes=(8, 16, 16)).eval()
    with pytest.raises(ConfigError, match="mask_ratio"):
        model(points, mask)
    mask[1] = True
    with pytest.raises(DataError, match="visible"):
        model(points, mask)


# --- layers ---------------------------------------------------------------------------------------


def test_propagation_joins_own_tokens_with_interpolated_ones():
    layer = settle(TokenPropagation(4, 6, 1)).eval()
    centers, own, coarser = torch.randn(2, 8, 3), torch.randn(2, 8, 4), torch.randn(2, 5, 6)
    sources = centers[:, :5]
    weights = 1 / (torch.cdist(centers, sources).square() + 1e-8)
    keep = weights.topk(3, dim=-1)
    weights = torch.zeros_like(weights).scatter(-1, keep.indices, keep.values)
    carried = (weights / weights.sum(-1, keepdim=True)) @ coarser
    rows = layer.fuse(torch.cat([own, carried], dim=-1).flatten(0, 1))
    expected = nn.functional.gelu(rows + layer.residuals[0].net2(layer.residuals[0].net1(rows)))
    actual = layer(own, centers, coarser, sources)
    torch.testing.assert_close(actual.flatten(0, 1), expected, rtol=1e-3, atol=1e-4)


def make_decoder():
    decoder = HierarchicalDecoder((6, 4), (1, 1), (1,), 2, 0.0)
    points = torch.randn(1, 6, 3, dtype=torch.float64)
    hidden = torch.tensor([[True, False, True]]), torch.tensor([[0, 1, 1, 0, 1]]).bool()
    centers = points[:, :3], points[:, :5]

    def run(coarse, fine):
        tokens = (coarse, fine)
        return decoder(points, list(map(MaskedScale, tokens, centers, hidden)))

    shapes = [(1, 3, 6), (1, 5, 4)]
    return decoder, run, shapes


def make_propagation():
    layer, points = TokenPropagation(4, 6, 2), torch.randn(2, 5, 3, dtype=torch.float64)
    return layer, lambda a, b: layer(a, points, b, points[:, :3]), [(2, 5, 4), (2, 3, 6)]


def make_tokenizer():
    layer = ScaleTokenizer(3, 2, 4, 6, (4, 4, 6))
    level = group_scales(torch.randn(2, 5, 3, dtype=torch.float64), (5, 3), (2, 2))[1]
    return layer, lambda x: layer(level, x), [(2, 5, 4)]


def make_residual():
    layer = ResidualMlp(4)
    return layer, layer, [(6, 4)]


@pytest.mark.parametrize("make", [make_decoder, make_propagation, make_tokenizer, make_residual])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_agree_with_finite_differences(make, training):
    layer, run, shapes = make()
    settle(layer.double()).train(training)
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(run, inputs)


def test_float64_models_stay_float64(points, mask):
    assert m2ae("classification").double().eval()(points.double()).dtype == torch.float64
    assert m2ae("pretraining").double().eval()(points.double(), mask).dtype == torch.float64


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dims": (12, 24)}, "dims has 2"),
        ({"dims": (12, 18, 25)}, "dims=25.*num_heads=6"),
        ({"num_groups": (16, 24, 8)}, "24.*4.*16"),
        ({"group_sizes": (8, 4, 20)}, "8.*20.*16"),
        ({"num_groups": (16,), "group_sizes": (8,), "dims": (12,), "depths": (1,),
          "local_radius": (0.3,)}, "two or more"),
        ({"num_groups": 16}, "num_groups"),
        ({"depths": (1, 0, 1)}, "depths"),
        ({"group_sizes": (8, 4, 2.5)}, "group_sizes"),
        ({"local_radius": (0.3, float("nan"), 1.0)}, "local_radius"),
        ({"local_radius": 0.3}, "local_radius"),
        ({"patch_widths": (8, 12)}, "patch_widths"),
        ({"pooling": "max"}, "pooling"),
        ({"pooling": "concat", "num_groups": (24, 16, 1)}, "skips a token"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"drop_path": "much"}, "drop_path"),
        ({"num_heads": 0}, "num_heads"),
        ({"skip_near_origin": "yes"}, "skip_near_origin"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        m2ae(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mask_ratio": 0.05}, "mask_ratio=0.05.*8"),
        ({"mask_ratio": 1.0}, "mask_ratio.*8"),
        ({"decoder_depths": (1,)}, "decoder_residuals"),
        ({"decoder_depths": (1, 1, 1, 1), "decoder_residuals": (1, 1, 1)}, "4 steps"),
        ({"decoder_depths": ()}, "decoder_residuals"),
        ({"decoder_residuals": (-1,)}, "decoder_residuals"),
        ({"decoder_num_heads": 5}, "dims=24.*decoder_num_heads=5"),
        ({"points_per_group": 0}, "points_per_group"),
        ({"reference_compat": "no"}, "reference_compat"),
    ],
    ids=str,
)
def test_settings_of_pretraining_out_of_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        m2ae("pretraining", **settings)


def test_lists_of_configuration_files_are_taken_for_tuples():
    model = m2ae("pretraining", dims=[12, 12, 24], decoder_depths=[1, 1], decoder_residuals=[2])
    assert model.backbone.config.dims == (12, 12, 24)
    assert model.pretraining_config.decoder_residuals == (2,)


def test_the_default_settings_are_the_published_ones():
    assert PointM2AEConfig() == PointM2AEConfig(
        num_groups=(512, 256, 64), group_sizes=(16, 8, 8), dims=(96, 192, 384), depths=(5, 5, 5),
        num_heads=6, local_radius=(0.32, 0.64, 1.28), drop_path=0.1, patch_widths=(128, 256, 512),
        pooling="mean+max", skip_near_origin=False,
    )  # fmt: skip
    assert PointM2AEPretrainingConfig() == PointM2AEPretrainingConfig(
        mask_ratio=0.8, decoder_depths=(1, 1), decoder_residuals=(1,), decoder_num_heads=6,
        points_per_group=None, reference_compat=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"task": "pretraining"}, 15_255_856),
        ({"preset": "modelnet40", "num_classes": 40}, 12_830_056),
        ({"preset": "scanobjectnn", "num_classes": 15}, 12_921_935),
        ({"preset": "shapenetpart", "num_parts": 50}, 25_474_354),
    ],
    ids=str,
)
def test_models_have_the_published_numbers_of_parameters(arguments, count):
    model = pp.create_model("point_m2ae", **arguments)
    assert sum(p.numel() for p in model.parameters()) == count


# --- checkpoints ----------------------------------------------------------------------------------


def published(task, path):
    """A model and a file with its weights under published names."""
    model = settle(m2ae(task))
    layout = LAYOUTS_BY_TASK[task]((1, 1, 2))
    torch.save({"base_model": layout.theirs(model.state_dict())}, path)
    return model, path


@pytest.mark.parametrize("task", LAYOUTS_BY_TASK)
def test_names_are_translated_both_ways_and_recognised(task):
    state, layout = m2ae(task).state_dict(), LAYOUTS_BY_TASK[task]((1, 1, 2))
    there = layout.theirs(state)
    found = recognise(list(there), LAYOUTS)
    assert found is not None
    assert found.name == layout.name
    assert not any(name.startswith(("backbone.", "decoder.")) for name in there)
    back = layout.ours(there)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("source", LAYOUTS_BY_TASK)
@pytest.mark.parametrize("task", ["features", *LAYOUTS_BY_TASK])
def test_the_encoder_of_every_published_file_goes_into_every_task(source, task, points, tmp_path):
    model, path = published(source, tmp_path / "model.pth")
    loaded = m2ae(task, checkpoint=path)
    encoder = getattr(loaded, "backbone", loaded).eval()
    assert torch.equal(encoder(points).tokens, model.backbone.eval()(points).tokens)
    if "classification" not in (source, task) and task != "features":
        names = [n for n in model.state_dict() if n.startswith("backbone.norms.")]
        assert len(names) == 6
        assert all(torch.equal(loaded.state_dict()[n], model.state_dict()[n]) for n in names)


@pytest.mark.parametrize("depths", [(2, 1, 2), (1, 1, 3), (5, 5, 5)], ids=str)
@pytest.mark.parametrize("task", LAYOUTS_BY_TASK)
def test_other_depths_are_refused(task, depths, tmp_path):
    """Also a deeper file, of which no part is left out in silence."""
    path = published(task, tmp_path / "model.pth")[1]
    with pytest.raises(CheckpointError, match=r"lacks .*backbone\.blocks\.\d"):
        m2ae(depths=depths, checkpoint=path)
    deeper = LAYOUTS_BY_TASK[task](depths).theirs(m2ae(task, depths=depths).state_dict())
    torch.save({"base_model": deeper}, path)
    with pytest.raises(CheckpointError, match=r"backbone\.blocks\.\d"):
        m2ae(checkpoint=path)


def test_other_entries_of_the_encoder_are_refused(tmp_path):
    model, path = published("classification", tmp_path / "model.pth")
    state = LAYOUTS_BY_TASK["classification"]((1, 1, 2)).theirs(model.state_dict())
    torch.save({"base_model": {**state, "h_encoder.other.weight": torch.zeros(2)}}, path)
    with pytest.raises(CheckpointError, match=r"backbone\.other"):
        m2ae(checkpoint=path)


def test_weights_of_pretraining_come_back_with_the_norms_of_all_scales(tmp_path):
    from pointpeft.models import save_model

    model = settle(m2ae("pretraining"))
    save_model(model.backbone, tmp_path / "backbone.safetensors")
    for task in ("features", "classification", "part_segmentation"):
        loaded = m2ae(task, checkpoint=tmp_path / "backbone.safetensors")
        encoder = getattr(loaded, "backbone", loaded).state_dict()
        expected = model.backbone.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in encoder.items())
    assert "norms.0.weight" in encoder
