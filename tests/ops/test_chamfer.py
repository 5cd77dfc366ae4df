import math

import numpy as np
import pytest
import torch

from pointpeft.ops import chamfer_distance
from pointpeft.ops.chamfer import rebuilding_error
from tests.ops._slow import distances


def slow(a, b):
    tables = [distances(x.numpy(), y.numpy()) for x, y in zip(a, b, strict=True)]
    return np.array([t.min(1) for t in tables]), np.array([t.min(0) for t in tables])


@pytest.fixture
def pair():
    return torch.randn(3, 7, 3), torch.randn(3, 11, 3)


def test_values_per_point_agree_with_the_definition(pair):
    for result, expected in zip(
        chamfer_distance(*pair, reduction="none"), slow(*pair), strict=True
    ):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_means_agree_with_the_definition(pair):
    d1, d2 = slow(*pair)
    r1, r2 = np.sqrt(d1), np.sqrt(d2)
    assert chamfer_distance(*pair).item() == pytest.approx(d1.mean() + d2.mean())
    assert chamfer_distance(*pair, "l1").item() == pytest.approx((r1.mean() + r2.mean()) / 2)
    directions = chamfer_distance(*pair, reduction="directions")
    assert [d.item() for d in directions] == pytest.approx([d1.mean(), d2.mean()])
    directions = chamfer_distance(*pair, "l1", "directions")
    assert [d.item() for d in directions] == pytest.approx([r1.mean(), r2.mean()])


@pytest.mark.parametrize("lattice", [False, True])
@pytest.mark.parametrize("setting", ["tiny_tiles", "always_tree"])
def test_all_ways_of_matching_agree(lattice, setting, request):
    a, b = torch.randn(3, 7, 3), torch.randn(3, 11, 3)
    if lattice:  # many equal distances, of which the first index is matched
        a, b = a.round(), b.round()
    expected = matched(a, b)
    request.getfixturevalue(setting)
    for result, value in zip(matched(a, b), expected, strict=True):
        assert torch.equal(result, value)


def matched(a, b):
    """Distances and gradients, which tell the matches."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    from_a, from_b = chamfer_distance(a, b, reduction="none")
    return from_a, from_b, *torch.autograd.grad(from_a.sum() + 2 * from_b.sum(), (a, b))


def test_ties_are_matched_with_the_first_index():
    a = torch.zeros(1, 2, 3, requires_grad=True)
    b = torch.eye(3).unsqueeze(0).requires_grad_()
    from_a, from_b = chamfer_distance(a, b, reduction="none")
    assert torch.autograd.grad(from_a.sum(), b)[0].nonzero().unique(dim=0).tolist() == [[0, 0, 0]]
    assert torch.autograd.grad(from_b.sum(), a)[0].any(-1).tolist() == [[True, False]]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradients(norm):
    a = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: chamfer_distance(x, y, norm), (a, b))


def test_gradient_flows_through_matched_pairs_only():
    a = torch.tensor([[[0.0, 0, 0]]], requires_grad=True)
    b = torch.tensor([[[1.0, 0, 0], [5.0, 0, 0]]], requires_grad=True)
    from_a, _ = chamfer_distance(a, b, reduction="directions")
    from_a.backward()
    assert a.grad.tolist() == [[[-2.0, 0, 0]]]
    assert b.grad.tolist() == [[[2.0, 0, 0], [0, 0, 0]]]


def test_l1_gradient_is_zero_at_coincidence_and_right_elsewhere():
    a = torch.tensor([[[0.0, 0, 0], [3.0, 0, 0]]], requires_grad=True)
    b = torch.tensor([[[0.0, 0, 0], [4.0, 0, 0]]])
    chamfer_distance(a, b, "l1").backward()
    assert a.grad.tolist() == [[[0.0, 0, 0], [-0.5, 0, 0]]]


def test_is_symmetric_and_zero_for_permuted_clouds(pair):
    a, b = pair
    assert chamfer_distance(a, b).item() == pytest.approx(chamfer_distance(b, a).item())
    assert chamfer_distance(a, a[:, torch.randperm(7)]).item() == 0


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_is_float32_under_autocast(pair, norm):
    expected = chamfer_distance(*(x.bfloat16().float() for x in pair), norm)
    with torch.autocast("cpu", torch.bfloat16):
        result = chamfer_distance(*(x.bfloat16() for x in pair), norm)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)


@pytest.mark.parametrize("tiles", ["one_tile", "tiny_tiles"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_diverged_point_makes_the_error_nan(pair, side, tiles, request):
    if tiles == "tiny_tiles":
        request.getfixturevalue(tiles)
    for place in range(7):
        points = [x.clone() for x in pair]
        points[side][1, place] = math.nan
        assert rebuilding_error(*points).isnan()
