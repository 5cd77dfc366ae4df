import pytest
import torch

from pointpeft.ops import squared_distance
from tests.ops._slow import distances


@pytest.mark.parametrize("grad", [False, True])
def test_agrees_bit_for_bit_with_the_definition_with_and_without_gradient(grad):
    query, points = torch.randn(2, 6, 3), torch.randn(2, 9, 3)
    result = squared_distance(query.clone().requires_grad_(grad), points).detach()
    for cloud in range(2):
        expected = torch.from_numpy(distances(query[cloud].numpy(), points[cloud].numpy()))
        assert torch.equal(result[cloud], expected)


def test_gradients():
    query = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    points = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(squared_distance, (query, points))


def test_input_is_not_modified():
    query, points = torch.randn(1, 4, 3), torch.randn(1, 5, 3)
    before = query.clone(), points.clone()
    squared_distance(query, points)
    assert torch.equal(query, before[0])
    assert torch.equal(points, before[1])
