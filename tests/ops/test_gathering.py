import pytest
import torch

from pointpeft.ops import gather_points


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 5), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_selects_rows_of_the_own_cloud(shape, dtype):
    points = torch.randn(3, 7, 5)
    indices = torch.randint(7, (3, *shape)).to(dtype)
    expected = torch.stack([points[i][indices[i].long()] for i in range(3)])
    assert torch.equal(gather_points(points, indices), expected)


def test_gradients_of_repeated_indices_add_up():
    points = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([[0, 0, 3], [2, 1, 2]])
    assert torch.autograd.gradcheck(lambda p: gather_points(p, indices), points)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    assert gather_points(torch.ones(1, 2, 3, dtype=dtype), torch.tensor([[1]])).dtype == dtype
