"""Transformer layers against written-out versions of their equations."""

import math

import pytest
import torch
from torch.nn import functional as F

from pointpeft.errors import ConfigError
from pointpeft.models.layers import (
    Attention,
    Block,
    DropPath,
    attention,
    drop_path,
    drop_path_rates,
)
from pointpeft.models.trunk import Geometry


def test_attention_equals_the_written_out_softmax():
    layer, x = Attention(24, 6), torch.randn(2, 5, 24)
    q, k, v = layer.qkv(x).split(24, dim=-1)
    heads = []
    for h in range(6):
        part = slice(4 * h, 4 * h + 4)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(4)
        heads.append(scores.softmax(-1) @ v[..., part])
    torch.testing.assert_close(layer(x), layer.proj(torch.cat(heads, dim=-1)))


def test_heads_must_divide_the_channels():
    with pytest.raises(ConfigError, match=r"num_heads.*24.*5"):
        Attention(24, 5)


def test_a_block_is_two_residual_branches():
    block, x = Block(24, 6).eval(), torch.randn(2, 5, 24)
    middle = x + block.attn(block.norm1(x))
    torch.testing.assert_close(block(x, Geometry(x, x)), middle + block.mlp(block.norm2(middle)))


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    x = torch.ones(20_000, 3)
    out = drop_path(x, 0.3)
    assert torch.equal(out[:, :1].expand(-1, 3), out)
    values = out[:, 0].unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.7]))
    dropped = (out[:, 0] == 0).float().mean().item()
    assert dropped == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 20_000))
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)


def test_drop_path_is_the_identity_in_eval_mode_and_at_rate_zero():
    x = torch.randn(8, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x
    assert not torch.equal(DropPath(0.9).train()(x), x)


def test_stochastic_depth_drops_each_branch_of_a_block_on_its_own():
    block, x = Block(24, 6, drop_path=0.5).train(), torch.randn(1, 5, 24)
    attended = 2 * block.attn(block.norm1(x))  # kept branches count twice
    results = []
    for middle in (x, x + attended):
        results += [middle, middle + 2 * block.mlp(block.norm2(middle))]
    many = x.expand(60, -1, -1)
    out = block(many, Geometry(many, many))
    error = (out - torch.stack(results)).abs().amax(dim=(2, 3))  # (4, 60)
    assert error.amin(dim=0).max() < 1e-5
    assert set(error.argmin(dim=0).tolist()) == {0, 1, 2, 3}


def test_rates_of_stochastic_depth_rise_linearly():
    assert drop_path_rates(0.1, 3) == pytest.approx([0.0, 0.05, 0.1])
    assert drop_path_rates(0.1, 1) == [0.0]


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_trained_in_half_precision_is_the_same_attention(scale, biased):
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.double)
    bias = torch.randn(2, 1, 9, 9, dtype=torch.double) if biased else None
    half = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in half]
    found = attention(*half, None if bias is None else bias.bfloat16(), scale)
    expected = F.scaled_dot_product_attention(
        *exact, attn_mask=None if bias is None else bias.bfloat16().double(), scale=scale
    )
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0.05)
    for one, other in zip(
        torch.autograd.grad(found.float().square().sum(), half),
        torch.autograd.grad(expected.square().sum(), exact),
        strict=True,
    ):
        torch.testing.assert_close(one.double(), other, rtol=0.1, atol=0.1)
