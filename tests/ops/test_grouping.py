import torch

from pointpeft.ops import group_points, squared_distance
from tests.ops._slow import nearest


def test_patches_are_the_nearest_points_relative_to_the_center():
    points, centers = torch.randn(2, 30, 3), torch.randn(2, 4, 3)
    patches, indices = group_points(points, centers, 5)
    for cloud in range(2):
        expected = nearest(centers[cloud].numpy(), points[cloud].numpy(), 5)[1]
        assert indices[cloud].tolist() == expected.tolist()
        absolute = points[cloud][indices[cloud]]
        assert torch.equal(patches[cloud], absolute - centers[cloud].unsqueeze(1))


def test_a_patch_of_all_points_holds_each_once():
    points = torch.randn(2, 6, 3)
    patches, indices = group_points(points, points, 6)
    assert torch.equal(indices.sort(-1).values, torch.arange(6).expand(2, 6, -1))
    assert patches[:, :, 0].eq(0).all()


def test_patches_are_ordered_by_distance():
    patches, _ = group_points(torch.randn(1, 50, 3), torch.randn(1, 3, 3), 20)
    origin = torch.zeros(3, 1, 3)
    assert squared_distance(origin, patches[0]).squeeze(1).diff(dim=-1).ge(-1e-6).all()


def test_gradients_reach_points_and_centers():
    points = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    centers = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, c: group_points(p, c, 4)[0], (points, centers))
