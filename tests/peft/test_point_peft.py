"""Point-PEFT: its equations, its independence of the batch, and its switches."""

import copy

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.models import Geometry
from pointpeft.ops import farthest_point_sample
from tests.models.tiny import clouds, tiny
from tests.peft import slow
from tests.peft.support import SMALL, bank, classifier, encoder, point_peft

LABELS = torch.tensor([0, 1, 2])


def idle(model):
    """Parameters called trainable whose gradient is absent or zero."""
    F.cross_entropy(model(clouds()), LABELS).backward()
    trained = [(n, p) for n, p in model.adapter.named_parameters() if p.requires_grad]
    return {name for name, p in trained if p.grad is None or not p.grad.any()}


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("with_bank", [False, True])
def test_a_block_equals_its_equations_group_by_group(number, with_bank):
    dtype, rtol = (torch.float32, 1e-4) if with_bank else (torch.float64, 1e-6)
    model, points = point_peft(with_bank=with_bank).to(dtype).eval(), clouds().to(dtype)
    centers = model.model.backbone.tokenizer.group(points).centers
    context = model.tuner.context(model.model.backbone.tokenize(points), None, None)
    x = torch.randn(3, 9, 24, dtype=dtype)
    inner, adapted = model.model.backbone.blocks[number], model.tuner.blocks[number]
    with torch.no_grad():
        out = adapted(inner, x, Geometry(points, centers, context))
        for b in range(3):
            prompt = context["bank_prompt"][b] if with_bank else None
            expected = slow.block(adapted, inner, model.tuner, x[b], centers[b], prompt)
            torch.testing.assert_close(out[b], expected, rtol=rtol, atol=0.1 * rtol)


def test_stochastic_depth_is_on_the_mlp_and_on_local_groups_but_not_on_attention(points):
    model = point_peft(with_bank=False)
    block, scale = model.model.backbone.blocks[0], model.tuner.scales[0]
    made, dropped = [], []
    for layer in (block.mlp, scale.local_attention):
        layer.register_forward_hook(lambda module, args, output: made.append(output))
    block.drop_path.register_forward_hook(lambda module, args, output: dropped.append(args[0]))
    model(points)
    assert len(dropped) == 2
    assert dropped[0] is made[0]
    assert dropped[1] is made[1]
    # The first axis, of which single entries are dropped, is that of the groups of all clouds.
    assert dropped[1].shape[:2] == (len(points) * scale.num_groups, scale.group_size)


@pytest.mark.parametrize("with_bank", [False, True])
def test_a_cloud_does_not_feel_its_batch(with_bank):
    model, points = point_peft(with_bank=with_bank).eval(), clouds(4)
    together = model(points)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(points[order]), together[order], rtol=1e-5, atol=1e-6)
    for row in range(4):
        alone = model(points[row : row + 1])[0]
        torch.testing.assert_close(alone, together[row], rtol=1e-5, atol=1e-6)


def test_in_the_published_computation_a_cloud_feels_its_batch():
    model, points = point_peft(reference_compat=True).eval(), clouds(4)
    together = model(points)
    torch.testing.assert_close(model(points[:1])[0], together[0], rtol=1e-5, atol=1e-6)
    assert (model(points[3:])[0] - together[3]).abs().max() > 1e-4


@pytest.mark.parametrize("with_bank", [False, True])
def test_gradient_reaches_everything_that_is_trained(with_bank):
    assert idle(point_peft(with_bank=with_bank).eval()) == set()


@pytest.mark.parametrize("with_bank", [False, True])
def test_the_published_computation_leaves_some_parameters_idle(with_bank):
    bottleneck = [
        f"bank_adapter.{ln}.{kind}" for ln in ("ln1", "ln2") for kind in ("weight", "bias")
    ]
    expected = {f"tuner.blocks.{i}.gate" for i in range(3)}
    expected |= {f"tuner.blocks.2.{name}" for name in ["prompt_embeddings", *bottleneck]}
    if not with_bank:
        expected |= {f"tuner.blocks.{i}.{name}" for i in (0, 1) for name in bottleneck}
    assert idle(point_peft(with_bank=with_bank, reference_compat=True).eval()) == expected


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        (
            "use_prompt",
            ("prompt_embeddings", "prompt_centers", "bank_adapter", "retriever", "bank."),
        ),
        ("use_bank", ("bank_adapter", "retriever", "bank.")),
        (
            "use_adapter",
            (".adapter.", "output_adapter", "out_transform", "local_", "prompt_centers"),
        ),
    ],
)
def test_a_switch_removes_its_parameters_and_no_others(switch, gone, points):
    whole, part = (
        set(model.adapter.state_dict()) for model in (point_peft(), point_peft(**{switch: False}))
    )
    assert part <= whole
    assert {name for name in whole if any(word in name for word in gone)} == whole - part
    assert idle(point_peft(**{switch: False}).eval()) == set()
    assert point_peft(**{switch: False}).eval()(points).shape == (3, 4)


def test_without_prompts_and_adapters_only_biases_are_tuned(points):
    model = pp.get_peft_model(
        classifier(), pp.PointPeftConfig(**SMALL, use_prompt=False, use_adapter=False)
    )
    plain = classifier()
    plain.load_state_dict(model.model.state_dict())
    torch.testing.assert_close(model.eval()(points), plain.eval()(points))


def test_without_bias_tuning_the_encoder_stays_as_it_is():
    whole, part = (
        {name for name, p in model.adapter.named_parameters() if p.requires_grad}
        for model in (point_peft(), point_peft(use_bias=False))
    )
    assert {name for name in part if name.startswith("model.backbone.")} == set()
    assert part == {name for name in whole if not name.startswith("model.backbone.")}
    assert whole - part


def test_prompts_go_into_the_first_blocks_only():
    model = point_peft(prompt_blocks=1)
    prompted = [hasattr(b, "prompt_embeddings") for b in model.tuner.blocks]
    assert prompted == [True, False, False]


def test_without_prompt_blocks_nothing_is_left_idle():
    model = point_peft(prompt_blocks=0)
    assert idle(model.eval()) == set()
    assert not model.tuner.leaves_idle
    assert model.bank is None
    assert not model.config.uses_bank


@pytest.mark.parametrize(("compat", "heads"), [(False, 6), (True, 3)])
def test_published_local_attention_has_the_heads_of_the_encoder(compat, heads):
    settings = {key: value for key, value in SMALL.items() if key != "attention_heads"}
    model = tiny("classification", num_heads=3)
    config = pp.PointPeftConfig(**settings, reference_compat=compat)
    assert pp.get_peft_model(model, config).config.attention_heads == heads


def test_heads_that_do_not_divide_the_local_attention_are_refused():
    with pytest.raises(ConfigError, match="attention_heads"):
        pp.get_peft_model(
            tiny("classification", num_heads=4), pp.PointPeftConfig(reference_compat=True)
        )


def test_the_last_bottleneck_can_have_a_width_of_its_own():
    block = point_peft(output_adapter_dim=7).tuner.blocks[0]
    assert block.adapter.ln1.out_features == SMALL["adapter_dim"]
    assert block.output_adapter.ln1.out_features == 7


def test_second_level_sizes_default_to_half_and_can_be_set(points):
    (scale,) = point_peft().tuner.scales
    assert (scale.num_groups, scale.group_size) == (4, 4)
    model = point_peft(second_groups=3, second_group_size=2)
    assert (model.tuner.scales[0].num_groups, model.tuner.scales[0].group_size) == (3, 2)
    assert model.eval()(points).isfinite().all()


@pytest.mark.parametrize(("compat", "calls"), [(False, 2), (True, 3)])
def test_geometry_is_computed_once_per_kind_of_block_and_forward(
    compat, calls, points, monkeypatch
):
    """The published prompt blocks sample twice: the prompted cloud, and its centers."""
    model = point_peft(reference_compat=compat).eval()
    seen = []

    def counting(*args, **kwargs):
        seen.append(args)
        return farthest_point_sample(*args, **kwargs)

    for module in ("peft.point_peft_block", "compat.methods"):
        monkeypatch.setattr(f"pointpeft.{module}.farthest_point_sample", counting)
    model(points)
    assert len(seen) == calls
    model(points)
    assert len(seen) == 2 * calls


def test_the_query_is_computed_by_the_frozen_encoder(points):
    model, query = point_peft().eval(), encoder().eval().retrieval_features(points)
    torch.testing.assert_close(model(points, query=query), model(points))
    assert not torch.allclose(model(points, query=-query), model(points))


def test_retrieval_follows_the_bank(points):
    model = point_peft().eval()
    before = model(points)
    model.bank.features.copy_(model.bank.features.flip(0))
    assert not torch.allclose(model(points), before)


def own_items(model):
    """Logits of items of the bank, and of the same items told where they stand in it."""
    points = clouds(12, seed=5)[:3]
    torch.manual_seed(0)
    plain = model(points)
    torch.manual_seed(0)
    return plain, model(points, exclude=torch.arange(3))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"use_adapter": False}),
    ],
    ids=str,
)
def test_items_leave_themselves_out_in_training(settings):
    model = point_peft(exclude_self=True, dropout=0.0, **settings).train()
    plain, excluded = own_items(model)
    assert not torch.allclose(plain, excluded)


def test_items_are_left_out_only_in_training_and_on_request():
    for model in (point_peft(exclude_self=True).eval(), point_peft(dropout=0.0).train()):
        plain, excluded = own_items(model)
        assert torch.equal(plain, excluded)


def test_retrieval_is_not_rounded_under_autocast():
    """Which items are nearest must not depend on the precision of the network."""
    torch.manual_seed(0)
    store = pp.MemoryBank(F.normalize(torch.randn(24, 500) + 2, dim=0))
    query = torch.randn(20, 24) + 2
    exact = store.retrieve(query, 8)
    with torch.autocast("cpu", torch.bfloat16):
        rough = store.retrieve(query, 8)
    assert torch.equal(rough.indices, exact.indices)


def test_queries_stay_those_of_the_frozen_encoder_while_the_model_is_tuned(points):
    model = point_peft(dropout=0.0)
    twin = model.tuner.retriever
    expected = encoder().eval().retrieval_features(points)
    before = model.eval()(points)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(points), LABELS).backward()
        optimizer.step()
    assert torch.equal(twin.eval().retrieval_features(points), expected)
    assert not torch.allclose(model.eval()(points), before)


@pytest.mark.parametrize("training", [False, True])
def test_clouds_are_tokenized_once_for_query_and_adapted_pass(points, training):
    model, calls = point_peft(dropout=0.0).train(training), []
    expected = encoder().eval().retrieval_features(points)
    for tokenizer in (model.model.backbone.tokenizer, model.tuner.retriever.tokenizer):
        tokenizer.register_forward_hook(lambda *_: calls.append(1))
    given, found = model(points, query=expected), model(points)
    assert len(calls) == 2  # one in each pass
    if not training:
        assert torch.equal(given, found)


def test_a_tokenized_cloud_may_stand_for_its_points(points):
    model = classifier().eval()
    found = model.backbone.tokenize(points)
    assert torch.equal(model(found), model(points))
    assert model.backbone.tokenize(found) is found


def test_sharing_survives_a_copy_and_a_change_of_precision():
    for model in (copy.deepcopy(point_peft()), point_peft().double()):
        twin, block = model.tuner.retriever.blocks[0], model.model.backbone.blocks[0]
        assert twin.mlp.fc1.weight.data_ptr() == block.mlp.fc1.weight.data_ptr()
        assert twin.mlp.fc1.weight.dtype == block.mlp.fc1.weight.dtype


def test_a_bank_is_ignored_where_the_config_does_not_use_one():
    model = pp.get_peft_model(classifier(), pp.PointPeftConfig(**SMALL, use_bank=False), bank())
    assert model.bank is None
    assert not any("bank" in name for name in model.state_dict())


def test_a_model_with_a_bank_runs_in_double_precision(points):
    assert point_peft().double().eval()(points.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_prompts": 2}, "num_prompts.*3.*2"),
        ({"attention_dim": 7}, "attention_dim.*attention_heads.*7.*6"),
        ({"reference_compat": True, "use_prompt": False}, "reference_compat"),
        ({"reference_compat": True, "use_adapter": False}, "reference_compat"),
        ({"reference_compat": True, "use_bias": False}, "reference_compat"),
    ],
    ids=str,
)
def test_inconsistent_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        pp.PointPeftConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"adapter_dim": 0},
        {"bank_adapter_dim": -1},
        {"second_groups": 0},
        {"adapter_dim": (4, 0, 4)},
        {"output_adapter_dim": 2.5},
        {"group_pooling": "mean"},
        {"second_group_size": -2},
        {"prompt_blocks": -1},
        {"dropout": 1.5},
        {"attention_heads": 0},
        {"num_prompts": "10"},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        pp.PointPeftConfig(**settings)


def test_more_local_groups_than_rows_are_refused_when_attached():
    with pytest.raises(ConfigError, match="second_groups"):
        point_peft(second_groups=9)


@pytest.mark.parametrize("compat", [False, True])
def test_point_bert_is_tuned_like_point_mae(compat):
    points = clouds(4)
    backbone = tiny("features", "point_bert")
    bank = pp.MemoryBank.build(backbone, [points])
    config = pp.PointPeftConfig(num_prompts=4, reference_compat=compat)
    model = pp.get_peft_model(pp.build_classifier(backbone, 3), config, bank)
    same = pp.get_peft_model(tiny("classification"), config)
    counts, others = model.count_parameters(), same.count_parameters()
    bank_adapters = sum(
        p.numel() for n, p in model.adapter.named_parameters() if "bank_adapter" in n
    )
    expected = others["trainable_without_head"] + (0 if compat else bank_adapters)
    assert counts["trainable_without_head"] == expected
    logits = model.train()(points)
    logits.square().sum().backward()
    embed = model.model.backbone.tokenizer.embed
    assert logits.shape == (4, 3)
    assert all(p.grad is None for p in embed.parameters())
