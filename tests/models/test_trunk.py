"""The trunk: one loop over the blocks, and methods beside it that do not change it."""

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.models import Geometry
from pointpeft.models.trunk import Method, Stream
from tests.models.tiny import clouds, settle, tiny

MODELS = ["point_mae_small", "point_bert", "point_m2ae_small", "i2p_mae_small"]


def stream(prefix=1, bias=None):
    points, tokens = clouds(2, 32), torch.randn(2, 5 + prefix, 6)
    geometry = Geometry(points, points[:, :5], attention_bias=bias)
    return Stream(tokens, torch.randn(2, 5 + prefix, 6), geometry, prefix)


class Count(Method):
    """Counts blocks in the state, and says so in the feature."""

    def block(self, place, block, stream):
        before = stream.state or ()
        return super().block(place, block, stream).with_state((*before, place))

    def pool(self, model, stream):
        self.seen = stream.state
        return super().pool(model, stream)


@pytest.mark.parametrize("name", MODELS)
def test_a_method_acts_on_every_block_and_carries_a_state_through_all_scales(name, points):
    model, method = settle(tiny("classification", name)).eval(), Count()
    assert torch.equal(model(points, method), model(points))
    assert method.seen == tuple(range(len(model.backbone.blocks)))


@pytest.mark.parametrize("name", MODELS)
def test_methods_leave_the_trunk_as_it_is(name, points):
    model = settle(tiny("classification", name)).eval()
    state = {key: tensor.clone() for key, tensor in model.backbone.state_dict().items()}
    expected = model.backbone(points).tokens
    adapted = pp.get_peft_model(model, pp.IDPTConfig(num_neighbors=3)).train()
    adapted(points).sum().backward()
    assert torch.equal(model.backbone(points).tokens, expected)
    assert all(
        torch.equal(tensor, state[key]) for key, tensor in model.backbone.state_dict().items()
    )
    assert model.backbone.state_dict().keys() == state.keys()


def test_tokens_are_inserted_between_prefix_and_patches():
    before = stream(prefix=1)
    after = before.insert(torch.ones(1, 2, 6), torch.zeros(2, 2, 6))
    assert after.prefix == 3
    assert torch.equal(after.tokens[:, :1], before.tokens[:, :1])
    assert torch.equal(after.tokens[:, 1:3], torch.ones(2, 2, 6))
    assert torch.equal(after.positions[:, 1:3], torch.zeros(2, 2, 6))
    assert torch.equal(after.patches, before.patches)


def test_inserted_tokens_see_all_and_are_seen_by_all():
    bias = torch.full((2, 1, 5, 5), -1e5)
    grown = stream(prefix=0, bias=bias).insert(torch.ones(1, 2, 6), torch.ones(1, 2, 6)).geometry
    assert grown.attention_bias is not None
    assert torch.equal(grown.attention_bias[..., 2:, 2:], bias)
    assert not grown.attention_bias[..., :2, :].any()
    assert not grown.attention_bias[..., :2].any()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("task", ["classification", "part_segmentation"])
def test_a_dynamic_prompt_works_on_every_backbone_and_task(name, task, points):
    model = pp.get_peft_model(tiny(task, name), pp.IDPTConfig(num_neighbors=3))
    given = {"category": torch.tensor([0, 1, 2])} if task == "part_segmentation" else {}
    out = model.eval()(points, **given)
    assert len(out) == 3
    assert out.isfinite().all()
    alone = {key: value[1:2] for key, value in given.items()}
    torch.testing.assert_close(model(points[1:2], **alone), out[1:2], rtol=1e-4, atol=1e-5)


def test_a_prompt_enters_a_block_of_the_last_scale():
    model = tiny("classification", "point_m2ae_small")
    with pytest.raises(ConfigError, match="prompt_block=0"):
        pp.get_peft_model(model, pp.IDPTConfig(prompt_block=0))


def test_side_networks_need_one_scale_and_a_block_to_begin_at():
    with pytest.raises(ConfigError, match="one scale"):
        pp.get_peft_model(tiny("classification", "point_m2ae_small"), pp.STAGConfig())
    with pytest.raises(ConfigError, match="first_block=9"):
        pp.get_peft_model(tiny("classification"), pp.STAGConfig(first_block=9))


def test_blocks_before_the_first_moved_tokens_need_no_gradient(points):
    model = pp.get_peft_model(tiny("classification", depth=4), pp.STAGConfig(width=6))
    needed = []
    for block in model.model.backbone.blocks:
        block.register_forward_hook(lambda _, args, out: needed.append(out.requires_grad))
    model.train()(points)
    assert needed == [False, False, False, True]


def test_a_fresh_head_fits_what_a_method_pools():
    model = pp.get_peft_model(tiny("classification").double(), pp.STAGConfig(width=6)).eval()
    assert next(model.model.head.parameters()).dtype == torch.float64
    assert model.model.num_features == 24
    assert model.model.head(torch.ones(2, 24).double()).shape == (2, 4)
