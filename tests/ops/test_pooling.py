"""The maximum over groups, with and without a gradient."""

import pytest
import torch

from pointpeft.ops import max_pool


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [1, 2, -1])
def test_value_and_gradient_are_those_of_the_maximum(dim, keepdim):
    x = torch.randn(3, 5, 7, dtype=torch.double, requires_grad=True)
    found = max_pool(x, dim, keepdim)
    assert torch.equal(found, x.amax(dim=dim, keepdim=keepdim))
    assert torch.equal(found, max_pool(x.detach(), dim, keepdim))
    weight = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    (expected,) = torch.autograd.grad((x.amax(dim=dim, keepdim=keepdim) * weight).sum(), x)
    assert torch.equal(gradient, expected)  # no two members are equal


def test_of_equal_members_one_has_the_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    max_pool(x, dim=1).sum().backward()
    assert x.grad.sum(dim=1).tolist() == [1, 1]
    assert set(x.grad.flatten().tolist()) == {0, 1}
