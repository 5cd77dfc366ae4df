"""Point-PEFT on backbones of several scales: its equations, its gates, and its start."""

import copy

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import ConfigError
from tests.models.tiny import FOUR, TWO, clouds, settle, tiny
from tests.peft import slow

SMALL = {"num_prompts": 5, "adapter_dim": 4, "attention_dim": 6, "attention_heads": 3}
THREE = {"local_radius": (0.5, 0.9, 1.4), "depths": (2, 1, 2)}
every_network = pytest.mark.parametrize(
    ("name", "scales"),
    [("point_m2ae", THREE), ("i2p_mae", THREE), ("point_m2ae", FOUR), ("i2p_mae", TWO)],
    ids=["point_m2ae", "i2p_mae", "point_m2ae, four scales", "i2p_mae, two scales"],
)


def adapted(name: str = "point_m2ae", scales=THREE, fresh: bool = False, **settings):
    """A small adapted classifier with a bank; unless fresh, nothing is at its initial value."""
    torch.manual_seed(0)
    backbone = settle(tiny("features", name, **scales))
    bank = pp.MemoryBank.build(backbone, [clouds(12, seed=5)])
    model = pp.build_classifier(backbone, 4)
    plain = pp.build_classifier(copy.deepcopy(backbone), 4)
    model = pp.get_peft_model(model, pp.PointPeftConfig(**{**SMALL, **settings}), bank)
    if not fresh:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), plain.eval()


@pytest.mark.parametrize(
    ("place", "pooling", "scales"),
    [
        *((place, "max", THREE) for place in range(5)),
        (4, "mean+max", THREE),
        (2, "max", TWO),
        (4, "max", FOUR),
    ],
)
def test_a_block_equals_its_equations_group_by_group(place, pooling, scales):
    model, _ = adapted(scales=scales, group_pooling=pooling)
    model.bank.float()
    points, seen = clouds(2), {}
    block = model.tuner.blocks[place]
    block.register_forward_hook(lambda _, inputs, output: seen.update(io=(*inputs, output)))
    with torch.no_grad():
        model(points)
        inner, x, geometry, out = seen["io"]
        (scale,) = [s for s, one in enumerate(model.model.backbone.scales) if place in one.blocks]
        for b in range(2):
            last = scale == len(scales["depths"]) - 1
            prompt = geometry.context["bank_prompt"][b] if last else None
            expected = slow.block(
                block,
                inner,
                model.tuner,
                x[b],
                geometry.centers[b],
                prompt,
                scale,
                0,
                scales["local_radius"][scale],
            )
            torch.testing.assert_close(out[b], expected, rtol=1e-4, atol=1e-5)


def test_what_was_left_open_is_as_published():
    model, _ = adapted()
    assert model.config.propagation_coefficient == 0.2
    assert model.config.prompt_blocks == 5
    open_ones = pp.PointPeftConfig().resolve(tiny("features", "point_m2ae"))
    assert open_ones.num_prompts == 16
    one_scale = pp.PointPeftConfig().resolve(tiny("features"))
    assert (one_scale.num_prompts, one_scale.prompt_blocks) == (10, 6)
    assert one_scale.propagation_coefficient == 0.3


@every_network
def test_a_cloud_does_not_feel_its_batch(name, scales):
    model, _ = adapted(name, scales)
    points = clouds(4)
    together = model(points)
    for row in range(4):
        torch.testing.assert_close(
            model(points[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-5
        )


def test_in_the_published_computation_a_cloud_feels_its_batch():
    model, _ = adapted(reference_compat=True)
    points = clouds(4)
    assert (model(points[3:])[0] - model(points)[3]).abs().max() > 1e-4


@pytest.mark.parametrize("compat", [False, True])
def test_training_begins_with_closed_gates(compat):
    """By default a closed gate leaves the pre-trained MLP alone, published it shuts the MLP out."""
    model, _ = adapted(fresh=True, reference_compat=compat)
    block = model.tuner.blocks[0]
    h = torch.randn(2, 7, 12)
    assert block.gate.item() == 0
    torch.testing.assert_close(block.adapt(h), torch.zeros_like(h) if compat else h)


@every_network
def test_training_reaches_all_that_is_trained_and_nothing_else(name, scales):
    model, _ = adapted(name, scales)
    frozen = {n: p.clone() for n, p in model.adapter.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    F.cross_entropy(model.train()(clouds(4)), torch.arange(4)).backward()
    trained = {n: p for n, p in model.adapter.named_parameters() if p.requires_grad}
    assert not {n for n, p in trained.items() if p.grad is None or not p.grad.any()}
    optimizer.step()
    assert all(
        torch.equal(p, frozen[n]) for n, p in model.adapter.named_parameters() if n in frozen
    )
    finer = [f"norms.{scale}." for scale in range(len(scales["depths"]) - 1)]
    assert not any(norm in name for name in trained for norm in finer)


def test_the_bank_reaches_the_blocks_of_the_last_scale_alone():
    model, _ = adapted()
    with_bank = [block.bank_adapter is not None for block in model.tuner.blocks]
    assert with_bank == [False, False, False, True, True]


@every_network
def test_an_adapter_is_saved_and_loaded(name, scales, tmp_path):
    model, plain = adapted(name, scales)
    points = clouds(3)
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(plain.backbone, tmp_path)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded(points), model(points))


def test_every_scale_has_the_width_that_is_asked_for_it(tmp_path):
    model, _ = adapted(adapter_dim=(4, 2, 6), output_adapter_dim=3)
    blocks = model.tuner.blocks
    assert [block.adapter.ln1.out_features for block in blocks] == [4, 4, 2, 6, 6]
    assert {block.output_adapter.ln1.out_features for block in blocks} == {3}
    model.save_pretrained(tmp_path)
    base = settle(tiny("features", **THREE, name="point_m2ae"))
    base.load_state_dict(adapted()[1].backbone.state_dict())
    assert pp.load_adapter(base, tmp_path).config.adapter_dim == (4, 2, 6)


def test_widths_for_another_number_of_scales_are_refused():
    with pytest.raises(ConfigError, match="adapter_dim"):
        adapted(adapter_dim=(4, 2))


def test_one_coarse_group_is_a_local_group_of_its_own():
    scales = {"num_groups": (16, 8, 1), "group_sizes": (4, 4, 1), **THREE}
    model = pp.get_peft_model(
        tiny("classification", "point_m2ae", **scales), pp.PointPeftConfig(**SMALL)
    )
    assert model.tuner.scales[2].num_groups == 1
    assert model.eval()(clouds(2)).isfinite().all()


def test_local_groups_are_those_of_the_next_scale():
    model, _ = adapted()
    sizes = [(scale.num_groups, scale.group_size) for scale in model.tuner.scales]
    assert sizes == [(16, 4), (8, 4), (4, 4)]
    with pytest.raises(ConfigError, match="second_groups"):
        adapted(second_groups=4)


def test_ablations_keep_the_local_radius():
    """Without prompts and adapters the adapted model is the plain one."""
    model, plain = adapted(fresh=True, use_prompt=False, use_adapter=False)
    plain.head.load_state_dict(model.model.head.state_dict())
    torch.testing.assert_close(model(clouds()), plain(clouds()))
