"""The trainable layers: written-out versions and exact gradients."""

import pytest
import torch
from torch.autograd import gradcheck

from pointpeft.models import Geometry
from pointpeft.peft.point_peft_block import Bottleneck, LocalAttention, quick_gelu
from tests.models.tiny import clouds
from tests.peft.support import point_peft


@pytest.mark.parametrize("residual", [False, True])
def test_a_bottleneck_is_two_projections(residual):
    layer, x = Bottleneck(6, 3, residual).eval(), torch.randn(4, 5, 6)
    hidden = x @ layer.ln1.weight.T + layer.ln1.bias
    hidden = hidden / (1 + torch.exp(-1.702 * hidden))
    expected = hidden @ layer.ln2.weight.T + layer.ln2.bias + (x if residual else 0)
    torch.testing.assert_close(layer(x), expected)


def test_quick_gelu_is_close_to_gelu():
    x = torch.linspace(-6, 6, 100)
    torch.testing.assert_close(quick_gelu(x), torch.nn.functional.gelu(x), atol=0.03, rtol=0)


def test_local_attention_equals_attention_group_by_group():
    layer = LocalAttention(8, 6, 3).double()
    rows, groups = torch.randn(10, 8).double(), torch.randint(10, (4, 5))
    for group, result in zip(groups, layer(rows, groups), strict=True):
        q, k, v = layer.qkv(rows[group]).split(6, dim=1)
        heads = []
        for h in range(3):
            part = slice(2 * h, 2 * h + 2)
            weights = (q[:, part] @ k[:, part].T * 6**-0.5).softmax(-1)  # of the whole width
            heads.append(weights @ v[:, part])
        torch.testing.assert_close(result, layer.proj(torch.cat(heads, 1)))


def test_local_attention_refuses_heads_that_do_not_divide_its_width():
    with pytest.raises(ValueError, match=r"num_heads.*6.*4"):
        LocalAttention(8, 6, 4)


def test_gradients_of_the_bottleneck_are_exact():
    layer = Bottleneck(4, 3, True).double().eval()
    assert gradcheck(layer, torch.randn(2, 4, dtype=torch.float64, requires_grad=True))


def test_gradients_of_local_attention_are_exact():
    layer, groups = LocalAttention(4, 6, 3).double(), torch.randint(5, (2, 3))
    rows = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: layer(x, groups), rows)


@pytest.mark.parametrize("block", [0, 2], ids=["prompted", "plain"])
def test_gradients_of_a_block_are_exact(block):
    model = point_peft(with_bank=False).double().eval()
    points = clouds(2).double()
    centers = model.model.backbone.tokenizer.group(points).centers
    x = torch.randn(2, 9, 24, dtype=torch.float64, requires_grad=True)
    inner, adapted = model.model.backbone.blocks[block], model.tuner.blocks[block]
    direction = torch.randn(2, 9, 24, dtype=torch.float64)

    def projected(tokens):
        return (adapted(inner, tokens, Geometry(points, centers)) * direction).sum(-1)

    assert gradcheck(projected, x, fast_mode=True)
