import itertools
import math

import numpy as np
import pytest
import torch

from pointpeft.ops import earth_mover_distance, soft_matching
from tests.ops._slow import distances


def slow_soft_matching(a, b):
    """The annealed matching, point by point in Python floats; returns ``[j][i]``."""
    n, m = len(a), len(b)
    d2 = distances(a, b)
    supply, capacity = [max(1, m // n)] * n, [max(1, n // m)] * m
    match = np.zeros((m, n))
    for level in [-(4.0**p) for p in (7, 6, 5, 4, 3, 2, 1, 0, -1)] + [0.0]:
        kernel = [[math.exp(level * d2[i][j]) for j in range(m)] for i in range(n)]
        u = [
            supply[i] / (1e-9 + sum(kernel[i][j] * capacity[j] for j in range(m))) for i in range(n)
        ]
        s = [capacity[j] * sum(kernel[i][j] * u[i] for i in range(n)) for j in range(m)]
        v = [capacity[j] * min(capacity[j] / (s[j] + 1e-9), 1) for j in range(m)]
        moved = [[kernel[i][j] * u[i] * v[j] for j in range(m)] for i in range(n)]
        match += np.array(moved).T
        capacity = [max(0, capacity[j] - s[j]) for j in range(m)]
        supply = [max(0, supply[i] - sum(moved[i])) for i in range(n)]
    return match


@pytest.mark.parametrize("squared", [True, False])
def test_exact_is_the_best_of_all_permutations(squared):
    a, b = torch.randn(3, 5, 3), torch.randn(3, 5, 3)
    result = earth_mover_distance(a, b, squared=squared)
    assert result.shape == (3,)
    for cloud in range(3):
        cost = distances(a[cloud].numpy(), b[cloud].numpy())
        cost = cost if squared else np.sqrt(cost)
        best = min(cost[range(5), p].mean() for p in itertools.permutations(range(5)))
        assert result[cloud].item() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 9), (9, 4), (1, 3)])
def test_soft_matching_agrees_with_the_definition(n, m):
    a, b = torch.rand(2, n, 3, dtype=torch.float64), torch.rand(2, m, 3, dtype=torch.float64)
    match = soft_matching(a, b)
    assert match.shape == (2, m, n)
    for cloud in range(2):
        expected = slow_soft_matching(a[cloud].numpy(), b[cloud].numpy())
        np.testing.assert_allclose(match[cloud].numpy(), expected, rtol=1e-6, atol=1e-9)
    cost = [(match[c].numpy().T * distances(a[c].numpy(), b[c].numpy())).sum() / n for c in (0, 1)]
    np.testing.assert_allclose(earth_mover_distance(a, b, "soft").numpy(), cost, rtol=1e-9)


def test_soft_matching_moves_nearly_everything():
    match = soft_matching(torch.rand(2, 32, 3), torch.rand(2, 32, 3))
    torch.testing.assert_close(match.sum(1), torch.ones(2, 32), atol=0.02, rtol=0)


def test_soft_cost_is_not_below_the_optimum():
    a, b = torch.rand(4, 20, 3), torch.rand(4, 20, 3)
    assert (earth_mover_distance(a, b, "soft") > 0.98 * earth_mover_distance(a, b)).all()


@pytest.mark.parametrize("squared", [True, False])
def test_gradients_of_the_exact_distance(squared):
    a = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, y: earth_mover_distance(x, y, squared=squared), (a, b)
    )


def test_gradient_of_the_soft_distance_takes_the_match_as_constant():
    a = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    b = torch.rand(2, 6, 3, dtype=torch.float64)
    match = soft_matching(a, b).transpose(1, 2)
    earth_mover_distance(a, b, "soft").sum().backward()
    offsets = a.detach().unsqueeze(2) - b.unsqueeze(1)
    torch.testing.assert_close(a.grad, 2 * (match.unsqueeze(-1) * offsets).sum(2) / 5)


@pytest.mark.parametrize("method", ["exact", "soft"])
def test_plain_distance_has_a_finite_gradient_at_coincidence(method):
    a = torch.rand(1, 4, 3, requires_grad=True)
    earth_mover_distance(a, a.detach().clone(), method, squared=False).sum().backward()
    assert a.grad.isfinite().all()


def test_permuted_clouds_are_at_distance_zero():
    a = torch.randn(1, 8, 3)
    assert earth_mover_distance(a, a[:, torch.randperm(8)]).item() == 0


@pytest.mark.parametrize("method", ["exact", "soft"])
def test_is_float32_under_autocast(method):
    a, b = torch.rand(1, 8, 3), torch.rand(1, 8, 3)
    expected = earth_mover_distance(a, b, method)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(earth_mover_distance(a, b, method), expected)
